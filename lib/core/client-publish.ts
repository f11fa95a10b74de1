import type { Payload, Position } from '../model/publication.ts'
import type { Connection } from './connection.ts'
import type { Permissions } from './permissions.ts'
import type { Publisher } from './publisher.ts'
import { memberOf } from './subscriptions.ts'

/** The parts of this instance that a publish of a client acts on. */
export interface ClientPublishes {
  readonly permissions: Permissions
  readonly publisher: Publisher
}

/**
 * Publishes for a client, after its earlier subscribe to the channel. Resolves when the publication is stored. `next`
 * is called earlier: publishes reach Redis in the order in which they are sent, so the next command need not wait.
 * @param data What the client sent, for the app.
 * @param encode Encodes it, to be published as it is.
 * @throws as `Permissions.publish` and `Publisher.publish`
 */
export async function publishForClient (
  { permissions, publisher }: ClientPublishes, connection: Connection, channel: string, data: unknown, encode: () => Payload,
  next: () => void
): Promise<Partial<Position>> {
  await connection.turns.settled(channel)
  const { payload = encode(), ...options } = await permissions.publish(connection, channel, data)
  const member = memberOf(connection, connection.subscriptions.get(channel)?.info)
  const acknowledged = publisher.publish(channel, payload, options, member)
  const full = connection.inbox.publishing(acknowledged, 1, () => {}) // the client is told of a failure
  if (full === undefined) next()
  else full.then(next)
  return acknowledged
}
