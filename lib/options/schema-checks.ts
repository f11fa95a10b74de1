import type { Schema, StandardSchema } from '../model/schema.ts'
import { invalid } from './checks.ts'
import type { Check } from './checks.ts'

/** True for a schema that validates by itself. Those of arktype are functions. */
export function isStandardSchema (value: Schema): value is StandardSchema {
  return typeof (value as Partial<StandardSchema>)['~standard']?.validate === 'function'
}

/** True if a namespace or a method has a schema: only then is what compiles them loaded. */
export function hasSchema ({ channels, methods }: Readonly<Record<'channels' | 'methods', ReadonlyMap<string, { schema?: Schema | undefined }>>>): boolean {
  return [...channels.values(), ...methods.values()].some(({ schema }) => schema !== undefined)
}

/** Checks a `schema`. Whether it is a valid JSON Schema is found when the app's validator compiler compiles it. */
export const schema: Check<Schema> = (value, name) => {
  if (typeof value === 'function' && isStandardSchema(value)) return value
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw invalid(name, value, 'a JSON Schema, or a Standard Schema such as that of zod, valibot or arktype')
}
