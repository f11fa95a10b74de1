import type { FastifyInstance } from 'fastify'
import type { Connection } from '../../lib/core/connection.ts'

/** The connections of an instance with what only the plugin itself sees of them. */
export function connectionsOf (app: FastifyInstance): Connection[] {
  return Array.from(app.realtime.connections as Iterable<unknown> as Iterable<Connection>)
}

/**
 * More than the sockets between them hold. Who was sent this and does not read stays congested: a socket that is
 * filled bit by bit may be congested for a moment only. It takes a large `maxBufferedBytes`.
 */
export const MUCH = 'x'.repeat(20_000_000)
