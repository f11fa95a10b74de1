import { clientErrors, ReplyError } from '../model/error-replies.ts'
import { SchemaFailedError } from '../model/errors.ts'
import { encodePayload } from '../model/publication.ts'
import type { Payload } from '../model/publication.ts'
import type { StandardSchema } from '../model/schema.ts'
import { isDeeperThan } from '../util/nesting.ts'
import { isPromise } from '../util/task-queue.ts'
import { describe } from '../util/thrown.ts'

/** Characters of a reason. A client may have caused any number of them: names of its fields are in it. */
const MAX_REASON = 200
/** Levels of data that every schema can follow. Some have ten calls on the stack for each of them. */
const MAX_DEPTH = 64
const NO_REASON = 'data does not match the schema'

/** What a schema makes of data: a value, or the reason why it refuses it. */
export type Outcome = { readonly value: unknown } | { readonly reason: string }

/** What Fastify's validator compilers return, those of the app included (fastify.dev: Validation and Serialization). */
export interface ValidateFunction {
  (data: unknown, context?: object): unknown
  readonly errors?: unknown
  /** That of ajv, which replaces data that is no object through the context. */
  readonly schemaEnv?: unknown
}

/** Parses and checks what clients send, by one schema. */
export class Parser {
  readonly #name: string
  readonly #check: (data: unknown) => Outcome | Promise<Outcome>

  /** @param name That of the option, such as `channels['chat'].schema`. */
  constructor (name: string, check: (data: unknown) => Outcome | Promise<Outcome>) {
    this.#name = name
    this.#check = check
  }

  /** @throws ReplyError (107) with the first reason, FST_CRWS_SCHEMA_FAILED */
  async parse (data: unknown): Promise<unknown> {
    const outcome = await this.#attempt(data, () => this.#check(data))
    if ('value' in outcome) return outcome.value
    throw this.#refusal(outcome.reason)
  }

  /**
   * Encodes what `parse` has returned. A string is JSON, as it is without a schema.
   * @throws ReplyError (107), FST_CRWS_SCHEMA_FAILED if it is nothing that JSON can carry
   */
  encode (value: unknown): Promise<Payload> {
    return this.#attempt(value, () => {
      return typeof value === 'string' ? { kind: 'json', payload: Buffer.from(JSON.stringify(value)) } : encodePayload(value)
    })
  }

  async #attempt<T> (data: unknown, run: () => T | Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (error) {
      // A client can make any function that calls itself throw.
      if (isDeeperThan(MAX_DEPTH, data)) throw this.#refusal('data is nested too deep')
      throw new SchemaFailedError(this.#name, describe(error), error)
    }
  }

  #refusal (reason: string): ReplyError {
    const message = `${clientErrors.badRequest.message}: ${bounded(reason)}`
    return new ReplyError({ ...clientErrors.badRequest, message }, `${this.#name} refuses the data: ${bounded(reason)}`)
  }
}

/** Checks by a Standard Schema. */
export function standardCheck ({ '~standard': standard }: StandardSchema): (data: unknown) => Promise<Outcome> {
  return async data => {
    const result = await standard.validate(data)
    return result.issues === undefined ? { value: result.value } : { reason: reasonOf(result.issues) }
  }
}

/** Checks by what the app's validator compiler has made of a schema, as Fastify checks bodies. */
export function compiledCheck (validate: ValidateFunction): (data: unknown) => Outcome | Promise<Outcome> {
  return data => {
    if (Buffer.isBuffer(data)) return { reason: 'data is not JSON' }
    const holder = { data: data ?? null }
    const result = validate.schemaEnv === undefined
      ? validate(holder.data)
      : validate(holder.data, { parentData: holder, parentDataProperty: 'data' })
    const pass = () => ({ value: holder.data })
    if (isPromise(result)) return settled(result, validate, pass)
    if (result === false) return { reason: reasonOf(validate.errors) }
    if (typeof result !== 'object' || result === null) return pass()
    if ('error' in result && result.error) return { reason: reasonOf(result.error) }
    return 'value' in result ? { value: result.value } : pass()
  }
}

/**
 * Only whether it fulfils counts: what it fulfils to may be the client's data, in which `value` and `error` are
 * anything. A rejection without a list of reasons is no refusal: a database that a keyword asks may be down.
 */
async function settled (result: PromiseLike<unknown>, validate: ValidateFunction, pass: () => Outcome): Promise<Outcome> {
  try {
    return await result === false ? { reason: reasonOf(validate.errors) } : pass()
  } catch (error) {
    if (listOf(error) === undefined) throw error
    return { reason: reasonOf(error) }
  }
}

/** The first reason: of a list, or of an error with a list, in the form of ajv, Standard Schema, Joi or yup. */
function reasonOf (errors: unknown): string {
  const first: unknown = (listOf(errors) ?? [errors])[0]
  if (typeof first === 'string') return first
  const { message = NO_REASON, instancePath, path } = (first ?? {}) as { message?: unknown, instancePath?: unknown, path?: unknown }
  if (typeof instancePath === 'string') return `data${instancePath} ${message}`
  if (!Array.isArray(path)) return String(message)
  return `data${path.map(segment => `/${String(segment?.key ?? segment)}`).join('')}: ${message}`
}

function listOf (errors: unknown): readonly unknown[] | undefined {
  if (Array.isArray(errors)) return errors
  const { errors: ofAjv, issues, details } = (errors ?? {}) as Record<string, unknown>
  return [ofAjv, issues, details].find(Array.isArray)
}

function bounded (reason: string): string {
  return (reason.length > MAX_REASON ? `${reason.slice(0, MAX_REASON)}…` : reason).toWellFormed()
}
