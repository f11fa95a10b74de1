import type { Test } from 'tap'
import { until } from './until.ts'
import { connect } from './ws-client.ts'
import type { Client, ConnectOptions } from './ws-client.ts'

export interface EnvelopeClient extends Client {
  /** All messages so far, parsed. */
  readonly parsed: any[]
  /** Sends a command with an id, and resolves to its answer. */
  ask (command: object): Promise<any>
  /** Resolves to the first message that `find` accepts. */
  find (find: (message: any) => boolean, what?: string): Promise<any>
  /** Publications of a channel, in the order in which they came. */
  of (channel: string): any[]
}

/** A plain client that speaks the envelope. */
export async function envelopeClient (t: Test, url: string, options: ConnectOptions = {}): Promise<EnvelopeClient> {
  const client = await connect(t, `${url}/ws`, options)
  let id = 0
  const parsed = () => client.messages.map(message => JSON.parse(String(message)))
  const find = (accepts: (message: any) => boolean, what = 'a message') => until(() => parsed().find(accepts), what)
  return {
    ...client,
    get parsed () { return parsed() },
    find,
    of: channel => parsed().filter(message => message.channel === channel && 'data' in message),
    ask (command) {
      const own = ++id
      client.send(JSON.stringify({ id: own, ...command }))
      return find(message => message.id === own && ('result' in message || 'error' in message), `the answer to ${JSON.stringify(command)}`)
    }
  }
}
