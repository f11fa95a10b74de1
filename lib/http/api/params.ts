import { checkChannel } from '../../model/channel-rules.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import { isTags } from '../../model/publication.ts'
import type { Position } from '../../model/publication.ts'
import { isDeeperThan } from '../../util/nesting.ts'

/** Levels of JSON that callers may nest: what is sent to clients in ten languages, all of them have to read. */
const MAX_DEPTH = 1_000
const BASE64 = /^[\w+/-]*={0,2}$/

/** Answers a request that is wrong, and says what is wrong with it. */
export function badRequest (detail: string): ReplyError {
  return new ReplyError({ ...clientErrors.badRequest, message: `${clientErrors.badRequest.message}: ${detail}` }, detail)
}

export function isObject (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** True for what a library sends in place of a field that was not set. */
function isUnset (value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === '' || value === 0) return true
  return typeof value === 'object' && Object.keys(value).length === 0
}

/** The parameters of one call. */
export class Params {
  readonly #given: Record<string, unknown>

  /**
   * @param known Names of the parameters that the method takes.
   * @param unavailable Names of those that Centrifugo takes as well. Ignoring them would change what a call means.
   * @throws ReplyError (107) for a parameter that nobody knows, (108) for one that only Centrifugo has
   */
  constructor (given: unknown, known: readonly string[], unavailable: readonly string[] = []) {
    if (!isObject(given)) throw badRequest('the parameters are not an object')
    for (const [name, value] of Object.entries(given)) {
      if (known.includes(name) || isUnset(value)) continue
      if (!unavailable.includes(name)) throw badRequest(`there is no parameter ${name.slice(0, 50)}`)
      throw new ReplyError({ ...clientErrors.notAvailable, message: `${clientErrors.notAvailable.message}: ${name}` }, `the parameter ${name}`)
    }
    this.#given = given
  }

  /** undefined for null, too. */
  any (name: string): unknown { return this.#given[name] ?? undefined }

  /** '' by default. */
  text (name: string): string { return this.#typed(name, '', 'a string', value => typeof value === 'string' && value.isWellFormed()) }

  flag (name: string): boolean { return this.#typed(name, false, 'true or false', value => typeof value === 'boolean') }

  /** 0 by default. */
  integer (name: string): number { return this.#typed(name, 0, 'a whole number', Number.isSafeInteger) }

  tags (): Record<string, string> | undefined { return this.#typed('tags', undefined, 'an object of strings', isTags) }

  object (name: string): Record<string, unknown> | undefined { return this.#typed(name, undefined, 'an object', isObject) }

  list (name: string): unknown[] { return this.#typed<unknown[]>(name, [], 'a list', Array.isArray) }

  texts (name: string): string[] { return this.#typed<string[]>(name, [], 'a list of strings', value => Array.isArray(value) && value.every(one => typeof one === 'string')) }

  /** @throws FST_CRWS_INVALID_CHANNEL */
  channel (): string { return checkChannel(this.any('channel') as string) }

  /** The position in `name`. Libraries may leave out a zero and an empty string. */
  position (name: string): Position | undefined {
    const given = this.object(name)
    if (given === undefined) return undefined
    const position = new Params(given, ['offset', 'epoch'])
    const offset = position.integer('offset')
    if (offset < 0) throw badRequest(`${name}.offset is below 0`)
    return { offset, epoch: position.text('epoch') }
  }

  /** What is to be published: JSON, or a Buffer. */
  data (): unknown {
    const base64 = this.text('b64data')
    if (base64 !== '') {
      if (!BASE64.test(base64)) throw badRequest('b64data is not base64')
      return Buffer.from(base64, 'base64')
    }
    const data = this.#given.data
    if (data === undefined) throw badRequest('there is neither data nor b64data')
    if (isDeeperThan(MAX_DEPTH, data)) throw badRequest(`data is nested more than ${MAX_DEPTH} levels deep`)
    return data
  }

  #typed<T> (name: string, otherwise: T, expected: string, isValid: (value: unknown) => boolean): T {
    const value = this.any(name)
    if (value === undefined) return otherwise
    if (!isValid(value)) throw badRequest(`${name} is not ${expected}`)
    return value as T
  }
}
