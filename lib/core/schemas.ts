import type { FastifyInstance } from 'fastify'
import { InvalidSchemaError } from '../model/errors.ts'
import type { Schema } from '../model/schema.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { isStandardSchema } from '../options/schema-checks.ts'
import { describe } from '../util/thrown.ts'
import type { Methods } from './methods.ts'
import { compiledCheck, Parser, standardCheck } from './parser.ts'
import type { ValidateFunction } from './parser.ts'
import type { Permissions } from './permissions.ts'

/** Never answers. Fastify builds the validator compiler of a scope only if a route of the scope has a schema. */
const COMPILER_ROUTE = '/fastify-cloud-run-websocket/schemas'

/** A parser that is to be made, and where it belongs. */
interface Wanted {
  /** That of the option. */
  readonly name: string
  readonly schema: Schema
  readonly key: string
  readonly parsers: Map<string, Parser>
}

/**
 * Makes the parsers of all schemas when the app is ready: until then it may set its validator compiler, and add schemas
 * that others refer to. Then `app.ready` rejects with FST_CRWS_INVALID_SCHEMA, which names all that are invalid.
 */
export function addSchemas (app: FastifyInstance, options: ResolvedOptions, permissions: Permissions, methods: Methods): void {
  const wanted = [...wantedBy('channels', options.channels, permissions.parsers), ...wantedBy('methods', options.methods, methods.parsers)]
  if (!wanted.every(({ schema }) => isStandardSchema(schema))) addCompilerRoute(app)
  app.addHook('onReady', async () => {
    const problems: string[] = []
    for (const { name, schema, key, parsers } of wanted) {
      try {
        const check = isStandardSchema(schema) ? standardCheck(schema) : compiledCheck(compile(app, name, schema))
        parsers.set(key, new Parser(name, check))
      } catch (error) {
        problems.push(`${name}: ${describe(error)}`)
      }
    }
    if (problems.length > 0) throw new InvalidSchemaError(problems.length === 1 ? problems[0]! : `\n- ${problems.join('\n- ')}\n`)
  })
}

function wantedBy (option: string, entries: ReadonlyMap<string, { schema?: Schema | undefined }>, parsers: Map<string, Parser>): Wanted[] {
  return Array.from(entries).flatMap(([key, { schema }]) => schema === undefined ? [] : [{ name: `${option}['${key}'].schema`, schema, key, parsers }])
}

/** A body without content types is a schema for Fastify, of which the compiler has nothing to compile. */
function addCompilerRoute (app: FastifyInstance): void {
  app.route({
    method: 'POST',
    url: COMPILER_ROUTE,
    schema: { hide: true, body: { content: {} } } as object, // hide: from @fastify/swagger
    handler: (_request, reply) => reply.callNotFound()
  })
}

/** Compilers of an app may choose by the part of the request. Messages are JSON, as bodies are. */
function compile (app: FastifyInstance, name: string, schema: Schema): ValidateFunction {
  const validate: unknown = app.validatorCompiler?.({ schema, method: 'POST', url: name, httpPart: 'body' })
  if (typeof validate === 'function') return validate as ValidateFunction
  throw new TypeError("the app's validator compiler did not return a function")
}
