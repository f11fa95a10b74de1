import { parse } from '@lukeed/ms'
import { inspect } from 'node:util'
import { invalidOption, Problems, unknownOption } from './problems.ts'

/** Milliseconds, or a string such as '57m', '10s' or '250ms'. */
export type Duration = number | string

/** Checks one value and returns its resolved form. `name` is the option's full name, such as `heartbeat.interval`. */
export type Check<T> = (value: unknown, name: string) => T

/** The resolved form of an object, by the checks of its fields. */
export type Resolved<Checks> = { readonly [K in keyof Checks]: Checks[K] extends Check<infer T> ? T : never }

/** Options that hold secrets, at any depth and in any wrong form. */
const SECRET_OPTION = /^(?:token|redis|api)\b/

const FROM_ENVIRONMENT = '(is it read from an environment variable that is not set?)'

/** The message ends up in logs, so it shows no secrets: of options that hold some no more than the type. */
export function invalid (name: string, value: unknown, allowed: string): Error {
  if (value === undefined) return invalidOption(name, `undefined ${FROM_ENVIRONMENT}`, allowed)
  return invalidOption(name, SECRET_OPTION.test(name) ? typeOf(value) : shown(value), allowed)
}

function typeOf (value: unknown): string {
  if (value === null) return 'null'
  if (value === '') return `an empty string ${FROM_ENVIRONMENT}`
  return `a value of type ${Object.prototype.toString.call(value).slice('[object '.length, -1)}`
}

/** URLs without credentials, which may contain any character, even a second @, and without the query. */
function shown (value: unknown): string {
  return inspect(value, { depth: 1, breakLength: Infinity })
    .replace(/(['"`])([a-z][a-z0-9+.-]*:\/\/)?.*@/is, '$1$2***@')
    .replace(/([a-z][a-z0-9+.-]*:\/\/[^\s'"`?]*)\?[^\s'"`]*/gi, '$1?***')
}

/** Returns undefined for a value that is not a duration. */
export function milliseconds (value: unknown): number | undefined {
  const ms = typeof value === 'string' ? parse(value) : value
  return typeof ms === 'number' && Number.isFinite(ms) ? Math.round(ms) : undefined
}

export const duration = (min: number, max = Infinity): Check<number> => (value, name) => {
  const ms = milliseconds(value)
  if (ms !== undefined && ms >= min && ms <= max) return ms
  const range = `at least ${min} ms${max === Infinity ? '' : ` and at most ${max} ms`}`
  throw invalid(name, value, `a duration of ${range}: a number of milliseconds or a string such as '57m', '10s', '250ms'`)
}

export const integer = (min: number): Check<number> => (value, name) => {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min) return value
  throw invalid(name, value, `a whole number of at least ${min}`)
}

export const ratio: Check<number> = (value, name) => {
  if (typeof value === 'number' && value > 0 && value <= 1) return value
  throw invalid(name, value, 'a number above 0 and up to 1')
}

export const boolean: Check<boolean> = (value, name) => {
  if (typeof value === 'boolean') return value
  throw invalid(name, value, 'true or false')
}

export const routePath: Check<string> = (value, name) => {
  if (typeof value === 'string' && value.startsWith('/')) return value
  throw invalid(name, value, "a path that starts with '/', or false")
}

export const string = (pattern: RegExp, allowed: string): Check<string> => (value, name) => {
  if (typeof value === 'string' && pattern.test(value)) return value
  throw invalid(name, value, allowed)
}

export function fn<T> (allowed: string = 'a function'): Check<T> {
  return (value, name) => {
    if (typeof value === 'function') return value as T
    throw invalid(name, value, allowed)
  }
}

/** Takes one of these very values, or else what `check` takes. */
export function orLiteral<const L extends string | boolean, T> (literals: readonly L[], check: Check<T>): Check<L | T> {
  return (value, name) => literals.includes(value as L) ? value as L : check(value, name)
}

export function literal<const L extends readonly (string | boolean)[]> (...literals: L): Check<L[number]> {
  return (value, name) => {
    if (literals.includes(value as L[number])) return value as L[number]
    throw invalid(name, value, literals.map(one => inspect(one)).join(' or '))
  }
}

export function plainObject (value: unknown, name: string, allowed: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  throw invalid(name, value, allowed)
}

/** How an object is checked beyond its fields. */
export interface ObjectRules<Required extends string = never> {
  /** Fields without a default, each with what an error says is allowed. `@default` none */
  readonly required?: Readonly<Record<Required, string>>
  /** What an error says is allowed in place of a value that is not an object. `@default` the names of the fields */
  readonly allowed?: string
}

/** Takes an object with these fields and no others. A field that is undefined takes its default. */
export function fields<Checks extends { readonly [name: string]: Check<any> }, Required extends keyof Checks & string = never> (
  checks: Checks, defaults: Omit<Resolved<Checks>, Required>, rules: ObjectRules<Required> = {}
): Check<Resolved<Checks>> {
  const known = Object.keys(checks)
  const { required = {}, allowed = `an object with ${known.join(', ')}` } = rules
  return (value, name) => {
    const parent = name === '' ? '' : `${name}.`
    const given = plainObject(value, name === '' ? 'options' : name, allowed)
    const problems = new Problems()
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(checks, key)) problems.add(unknownOption(parent, key, known))
    }
    const resolved: Record<string, unknown> = {}
    for (const [key, check] of Object.entries(checks)) {
      const missing = (required as Readonly<Record<string, string>>)[key]
      problems.attempt(() => {
        if (given[key] !== undefined) resolved[key] = check(given[key], parent + key)
        else if (Object.hasOwn(defaults, key)) resolved[key] = (defaults as Record<string, unknown>)[key]
        else if (missing !== undefined) throw key in given ? invalid(parent + key, undefined, missing) : invalidOption(parent + key, 'nothing', missing)
      })
    }
    problems.throwIfAny()
    return Object.freeze(resolved) as Resolved<Checks>
  }
}
