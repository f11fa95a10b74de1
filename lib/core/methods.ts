import { clientErrors, ReplyError } from '../model/error-replies.ts'
import type { Method } from '../options/method-checks.ts'
import type { Connection } from './connection.ts'

/** The methods that clients may call, on every route. */
export class Methods {
  readonly #byName: ReadonlyMap<string, Method>

  constructor (byName: ReadonlyMap<string, Method>) {
    this.#byName = byName
  }

  /** False if the app has none: then nothing that a plain client sends is a call. */
  get any (): boolean { return this.#byName.size > 0 }

  has (name: string): boolean { return this.#byName.has(name) }

  /** True if the next message of the connection need not wait for this one's handler. */
  concurrent (name: string): boolean { return this.#byName.get(name)?.concurrent === true }

  /** @throws ReplyError (104 for an unknown method), and what the handler throws */
  async call (connection: Connection, name: string, data: unknown): Promise<unknown> {
    const method = this.#byName.get(name)
    if (method === undefined) throw new ReplyError(clientErrors.methodNotFound, 'the option methods has no such method')
    return method.handler(connection, data)
  }
}
