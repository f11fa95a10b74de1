import type { FastifyRequest } from 'fastify'
import { randomUUID } from 'node:crypto'
import type { WebSocket } from 'ws'
import type { Connection } from '../../core/connection.ts'
import type { Protocol } from '../../core/protocol.ts'
import type { Session } from '../../core/session.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { TransportName } from '../../model/connection.ts'
import type { Codec } from './codec.ts'
import type { Context } from './context.ts'
import { Dispatcher } from './dispatcher.ts'
import { SdkEncoder } from './encoder.ts'
import { SdkSession } from './session.ts'

const JSON_SUBPROTOCOL = 'centrifuge-json'
const PROTOBUF_SUBPROTOCOL = 'centrifuge-protobuf'
/** Milliseconds within which a client must connect, as in Centrifugo: an idle socket costs as much as a busy one. */
const STALE_TIMEOUT = 10_000

/**
 * The Centrifugal client protocol (centrifugal.dev/docs/transports/client_protocol), in one of its encodings. In this
 * folder a name in brackets, such as [Ping Pong], is a section of that page.
 */
export class SdkProtocol implements Protocol<Connection> {
  readonly encoder: SdkEncoder
  readonly #dispatcher: Dispatcher

  constructor (codec: Codec, context: Context, transport?: TransportName) {
    this.encoder = new SdkEncoder(codec, transport)
    this.#dispatcher = new Dispatcher(this.encoder, context)
  }

  open (connection: Connection): Session {
    connection.closeAt(Date.now() + STALE_TIMEOUT, sdkOnlyCloseCodes.stale)
    connection.outbox.hold()
    return new SdkSession(connection, this.#dispatcher, this.encoder.transport === 'websocket' ? undefined : randomUUID())
  }

  /** What the client of a connection that is no WebSocket names in its posts. */
  secretOf ({ session }: Connection): string {
    return (session as SdkSession).secret!
  }
}

/**
 * Chooses a subprotocol of the SDKs among those offered, else the first, as `ws` does by default: a client whose
 * subprotocol is not echoed gives up.
 */
export function chooseSubprotocol (offered: ReadonlySet<string>): string | false {
  return [PROTOBUF_SUBPROTOCOL, JSON_SUBPROTOCOL, ...offered].find(one => offered.has(one)) ?? false
}

/** True if an SDK wants Protobuf instead of JSON (centrifugal.dev/docs/transports/websocket). */
export function wantsProtobuf (socket: WebSocket, request: FastifyRequest): boolean {
  const { format, cf_protocol: protocol } = request.query as Record<string, unknown>
  return socket.protocol === PROTOBUF_SUBPROTOCOL || format === 'protobuf' || protocol === 'protobuf'
}
