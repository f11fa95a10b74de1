import type { FastifyInstance } from 'fastify'
import type { Connection } from '../../lib/core/connection.ts'

/** The connections of an instance with what only the plugin itself sees of them. */
export function connectionsOf (app: FastifyInstance): Connection[] {
  return Array.from(app.realtime.connections as Iterable<unknown> as Iterable<Connection>)
}
