import { inspect } from 'node:util'
import { checkFields } from '../model/arguments.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import { decodeFields, encodeFields, SESSION_TTL } from '../model/sessions.ts'
import type { SessionFields, SessionStore } from '../model/sessions.ts'
import type { Observer } from '../observability/observer.ts'
import { milliseconds } from '../options/checks.ts'
import type { Duration } from '../options/checks.ts'
import { checkUser } from './check-user.ts'
import { guarded } from './guard.ts'

/** `app.realtime.sessions`: fields of a user that every instance sees. */
export interface Sessions {
  /**
   * Returns the user's fields; undefined without a session.
   * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  get (user: string): Promise<SessionFields | undefined>
  /**
   * Sets these fields and keeps the others; undefined removes a field. The session ends `ttl` after it was last set.
   * @param options `ttl`: milliseconds or a string such as '1h'. `@default` one hour
   * @throws as `get`; FST_CRWS_INVALID_DATA if JSON cannot carry a field
   */
  set (user: string, fields: SessionFields, options?: { ttl?: Duration | undefined }): Promise<void>
  /**
   * Ends the user's session.
   * @throws as `get`
   */
  delete (user: string): Promise<void>
}

export function sessionCalls (store: SessionStore, observer: Observer): Sessions {
  return {
    get: guarded(observer, 'sessions.get', async user => {
      const fields = await store.get(checkUser(user))
      return fields.size === 0 ? undefined : decodeFields(fields)
    }),
    set: guarded(observer, 'sessions.set', (user, fields, options = {}) => {
      checkFields('options of sessions.set', options, ['ttl'])
      return store.set(checkUser(user), encodeFields(fields), checkTtl(options.ttl ?? SESSION_TTL))
    }),
    delete: guarded(observer, 'sessions.delete', user => store.delete(checkUser(user)))
  }
}

function checkTtl (ttl: Duration): number {
  const ms = milliseconds(ttl)
  if (ms !== undefined && ms >= 1) return ms
  throw new InvalidArgumentError('ttl', inspect(ttl), "a duration of at least 1 ms: a number of milliseconds or a string such as '1h'")
}
