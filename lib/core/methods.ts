import { clientErrors, ReplyError } from '../model/error-replies.ts'
import type { Method } from '../options/method-checks.ts'
import type { Connection } from './connection.ts'
import type { Parser } from './parser.ts'

/** The methods that clients may call, on every route. */
export class Methods {
  /** Of the methods with a schema, by name. Set before the app is ready. */
  readonly parsers = new Map<string, Parser>()
  readonly #byName: ReadonlyMap<string, Method>

  constructor (byName: ReadonlyMap<string, Method>) {
    this.#byName = byName
  }

  /** False if the app has none: then nothing that a plain client sends is a call. */
  get any (): boolean { return this.#byName.size > 0 }

  has (name: string): boolean { return this.#byName.has(name) }

  /** True if the next message of the connection need not wait for this one's handler. */
  concurrent (name: string): boolean { return this.#byName.get(name)?.concurrent === true }

  /**
   * The handler gets what the schema makes of the data.
   * @throws ReplyError (104 for an unknown method, 107 for data that the schema refuses), FST_CRWS_SCHEMA_FAILED, and
   * what the handler throws
   */
  async call (connection: Connection, name: string, data: unknown): Promise<unknown> {
    const method = this.#byName.get(name)
    if (method === undefined) throw new ReplyError(clientErrors.methodNotFound, 'the option methods has no such method')
    return method.handler(connection, method.schema === undefined ? data : await this.parsers.get(name)!.parse(data))
  }

  /** Names the code of the app that `call` runs, for the log entry of its failure; undefined for an unknown method. */
  handlerOf (name: string): string | undefined {
    return this.has(name) ? `methods['${name}'].handler` : undefined
  }
}
