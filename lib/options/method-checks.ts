import type { Schema } from '../model/schema.ts'
import { boolean, fields, fn, plainObject } from './checks.ts'
import type { Check } from './checks.ts'
import type { MethodOptions } from './method-options.ts'
import { Problems } from './problems.ts'
import { schema } from './schema-checks.ts'

/** A checked method, with every field set. */
export interface Method {
  readonly schema: Schema | undefined
  readonly handler: MethodOptions['handler']
  readonly concurrent: boolean
}

const method: Check<Method> = fields({
  schema: schema as Check<Method['schema']>, handler: fn<MethodOptions['handler']>(), concurrent: boolean
}, { schema: undefined, concurrent: false }, {
  required: { handler: 'a function' }, allowed: '{ schema?, handler, concurrent? }'
})

/** Checks the option `methods`. */
export const methods: Check<ReadonlyMap<string, Method>> = (value, name) => {
  const given = plainObject(value, name, 'an object of methods by name')
  const resolved = new Map<string, Method>()
  const problems = new Problems()
  for (const [key, one] of Object.entries(given)) {
    problems.attempt(() => { resolved.set(key, method(one, `${name}['${key}']`)) })
  }
  problems.throwIfAny()
  return resolved
}
