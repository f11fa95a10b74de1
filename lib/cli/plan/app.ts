import type { Input } from './input.ts'
import type { App } from './traffic.ts'

/** Bytes of a channel's name and of a user's id: `room:1234567890`, and eight digits. */
const CHANNEL_BYTES = 16
const USER_BYTES = 8

/** `connections`: of all instances at this moment. `age`: seconds that a connection lives. */
export interface Moment { connections: number, instances: number, age: number }

/** What the model has to know about an app. With fewer connections than at the peak there is less of everything. */
export function appOf (input: Input, { connections, instances, age }: Moment): Partial<App> {
  const memberships = connections * input.channels
  return {
    instances,
    connections,
    age,
    channels: Math.max(input.channels, Math.ceil(memberships / input.channelSize)),
    perConnection: input.channels,
    publications: input.messages * connections / input.connections,
    payload: input.size,
    history: input.history > 0,
    historySize: input.history,
    presence: input.presence,
    sdk: input.sdk,
    byClients: input.sdk,
    channelBytes: CHANNEL_BYTES,
    userBytes: USER_BYTES
  }
}
