import type { ApiOptions } from './api-options.ts'
import { fields, fn, invalid } from './checks.ts'
import type { Check } from './checks.ts'
import { invalidOption } from './problems.ts'

/** Checked access to the HTTP API. One of the two is set. */
export interface Api {
  readonly key: readonly string[] | undefined
  readonly authorize: NonNullable<ApiOptions['authorize']> | undefined
}

/** What a header can carry as it is, so that a line break from a file is found here and not at the first call. */
const isKey = (value: unknown): value is string => typeof value === 'string' && /^[\x21-\x7e]{16,}$/.test(value)

const key: Check<readonly string[] | undefined> = (value, name) => {
  const keys = Array.isArray(value) ? value : [value]
  if (keys.length > 0 && keys.every(isKey)) return Object.freeze(keys)
  throw invalid(name, value, "a string of at least 16 printable ASCII characters without spaces, as from 'openssl rand -hex 32', or a list of them")
}

/** Checks the option `apiPath`. */
export const apiPath: Check<string> = (value, name) => {
  if (typeof value === 'string' && /^\/.*[^/]$/.test(value)) return value
  throw invalid(name, value, "a path that starts with '/' and does not end with one, or false")
}

const apiFields = fields({ key, authorize: fn<Api['authorize']>() }, { key: undefined, authorize: undefined }, { allowed: '{ key } or { authorize }' })

/** Checks the option `api`. */
export const api: Check<Api | undefined> = (value, name) => {
  const checked = apiFields(value, name)
  if ((checked.key === undefined) !== (checked.authorize === undefined)) return checked
  if ('key' in (value as object) && checked.key === undefined) throw invalid(`${name}.key`, undefined, 'a key')
  throw invalidOption(name, checked.key === undefined ? 'neither key nor authorize' : 'both key and authorize', 'one of them')
}

/** Checks the two options together. `given`: as the app has set them. */
export function checkApi (given: { apiPath?: unknown, api?: unknown }, resolved: { apiPath: string | false, api: Api | undefined }): void {
  if (resolved.apiPath !== false && resolved.api === undefined) {
    throw invalidOption('api', 'nothing', 'who may call the HTTP API at apiPath: { key } or { authorize }')
  }
  if (resolved.api !== undefined && given.apiPath === undefined) {
    throw invalidOption('apiPath', 'nothing', "the path of the HTTP API to which the option api applies, such as '/api', or false")
  }
}
