import type { Connection } from '../../core/connection.ts'
import type { Protocol } from '../../core/protocol.ts'
import type { UniSseContext } from './context.ts'
import { uniSseEncoder } from './encoder.ts'
import type { EventStream } from './event-stream.ts'
import type { EventSourceRequest } from './request.ts'
import { UniSseSession } from './session.ts'

/** What the client of this one request speaks. It says all it wants in the request, before there is a connection. */
export function uniSseProtocol (context: UniSseContext, stream: EventStream, request: EventSourceRequest): Protocol<Connection> {
  return { encoder: uniSseEncoder, open: connection => new UniSseSession(connection, context, stream, request) }
}
