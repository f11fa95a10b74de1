import type { Encoder } from '../model/encoder.ts'
import type { Session } from './session.ts'

/** What clients speak: an encoder for what they get, and a session per connection for what they send. */
export interface Protocol<Connection> {
  readonly encoder: Encoder
  /** Called by the connection's constructor. The session begins with its `start`. */
  open (connection: Connection): Session
}
