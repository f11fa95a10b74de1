import type { FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'

const JSON_SUBPROTOCOL = 'centrifuge-json'
const PROTOBUF_SUBPROTOCOL = 'centrifuge-protobuf'

/**
 * Chooses ours among the offered subprotocols, else the first, as `ws` does by default: a client whose subprotocol is not echoed
 * gives up.
 */
export function chooseSubprotocol (offered: ReadonlySet<string>): string | false {
  return [PROTOBUF_SUBPROTOCOL, JSON_SUBPROTOCOL, ...offered].find(one => offered.has(one)) ?? false
}

/** Whether an SDK wants Protobuf instead of JSON (centrifugal.dev/docs/transports/websocket). */
export function wantsProtobuf (socket: WebSocket, request: FastifyRequest): boolean {
  const { format, cf_protocol: protocol } = request.query as Record<string, unknown>
  return socket.protocol === PROTOBUF_SUBPROTOCOL || format === 'protobuf' || protocol === 'protobuf'
}
