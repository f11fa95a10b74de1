import type { Connection } from '../../core/connection.ts'
import type { Connections } from '../../core/connections.ts'
import type { Core } from '../../core/core.ts'
import type { Protocol } from '../../core/protocol.ts'
import type { Session } from '../../core/session.ts'
import type { Subscriptions } from '../../core/subscriptions.ts'
import type { ChannelNamespaces } from '../../model/channel-rules.ts'
import type { Encoder, Frame } from '../../model/encoder.ts'
import { MessageRateError } from '../../model/errors.ts'
import type { Observer } from '../../observability/observer.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'
import { Deadlines } from '../../util/deadlines.ts'
import { plainEncoder, PlainSession } from './session.ts'
import type { PlainCommands, PlainSessionOwner } from './session.ts'

/** The plain route. Only an app with the option `plain.envelope` or with methods imports what reads messages. */
export async function createPlainProtocol (
  core: Core, namespaces: ChannelNamespaces, options: ResolvedOptions, observer: Observer
): Promise<PlainProtocol> {
  const { connections, subscriptions } = core
  if (!options.plain.envelope && !core.methods.any) return new PlainProtocol(options, connections, subscriptions, observer)
  const [{ Commands }, { envelopeEncoder }] = await Promise.all([import('./commands.ts'), import('./envelope.ts')])
  const encoder = options.plain.envelope ? envelopeEncoder : plainEncoder
  const { methods, permissions, publisher } = core
  const commands = new Commands({ options, observer, namespaces, subscriptions, methods, permissions, publisher, encoder })
  return new PlainProtocol(options, connections, subscriptions, observer, encoder, commands)
}

export class PlainProtocol implements Protocol<Connection>, PlainSessionOwner {
  readonly options: ResolvedOptions
  readonly connections: Connections
  readonly subscriptions: Subscriptions
  readonly observer: Observer
  readonly encoder: Encoder
  readonly commands: PlainCommands | undefined
  readonly deadlines = new Deadlines()
  readonly tooFast: Frame

  constructor (
    options: ResolvedOptions, connections: Connections, subscriptions: Subscriptions, observer: Observer,
    encoder: Encoder = plainEncoder, commands?: PlainCommands
  ) {
    this.options = options
    this.connections = connections
    this.subscriptions = subscriptions
    this.observer = observer
    this.encoder = encoder
    this.commands = commands
    const { messages } = options.rateLimit
    const { code, message } = messages === false ? new MessageRateError(0, 0) : new MessageRateError(messages.max, messages.timeWindow)
    this.tooFast = plainEncoder.message({ type: 'error', code, message })
  }

  open (connection: Connection): Session {
    return new PlainSession(connection, this)
  }
}
