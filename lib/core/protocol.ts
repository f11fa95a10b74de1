import type { FastifyRequest } from 'fastify'
import type { Encoder } from '../model/encoder.ts'
import type { Identity } from '../options/options.ts'
import type { Connection } from './connection.ts'
import type { Session } from './session.ts'

/** What clients speak: an encoder for what they get, and a session per connection for what they send. */
export interface Protocol {
  readonly encoder: Encoder
  /** Called right after the upgrade. `identity` is what `authenticate` returned; undefined without it. */
  open (connection: Connection, identity: Identity | undefined, request: FastifyRequest): Session
}
