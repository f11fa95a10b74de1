import { closeCodes } from './close-codes.ts'
import type { End } from './close-codes.ts'
import type { Connection } from './connection.ts'
import { MessageRateError } from './errors.ts'
import type { Options, ResolvedLimit } from './options.ts'
import type { Frame, Protocol } from './protocol.ts'
import { encodePayload } from './publication.ts'
import type { Publication } from './publication.ts'

/**
 * No protocol at all: the host says what messages mean. Only three are ours, all JSON with a `type`: `shutdown` before we close
 * for a drain or the deadline, and `error` for a message that was dropped.
 */
export class PlainProtocol implements Protocol {
  readonly name = 'plain'
  readonly index = 0
  readonly #onMessage: Options['onMessage']
  readonly #tooFast: Frame

  constructor (onMessage: Options['onMessage'], limit: ResolvedLimit | false) {
    this.#onMessage = onMessage
    const { code, message } = limit === false ? new MessageRateError(0, 0) : new MessageRateError(limit.max, limit.timeWindow)
    this.#tooFast = this.message({ type: 'error', code, message })
  }

  handle (connection: Connection, data: Buffer, binary: boolean): void | Promise<void> {
    if (this.#onMessage === undefined) return connection.end(closeCodes.unsupported)
    return this.#onMessage(connection, binary ? data : data.toString()) as void | Promise<void>
  }

  tooFast (connection: Connection): void {
    connection.write(this.#tooFast)
  }

  publication (_channel: string, { payload, kind }: Publication): Frame {
    return { payload, binary: kind === 'binary' }
  }

  message (data: unknown): Frame {
    const { payload, kind } = encodePayload(data)
    return { payload, binary: kind === 'binary' }
  }

  goodbye ({ reason, cause }: End): Frame | undefined {
    return cause === 'drain' || cause === 'deadline' ? this.message({ type: 'shutdown', message: reason, reconnect: true }) : undefined
  }
}
