import type { Backend } from '../backends/backend.ts'
import { Hub } from '../hub/hub.ts'
import { ChannelNamespaces } from '../model/channel-rules.ts'
import type { Observer } from '../observability/observer.ts'
import type { ResolvedOptions } from '../options/resolve.ts'
import { Connections } from './connections.ts'
import { Control } from './control.ts'
import { InstanceRegistry } from './instance-registry.ts'
import { Listeners } from './listeners.ts'
import { Methods } from './methods.ts'
import { Occupancies } from './occupancy.ts'
import { Permissions } from './permissions.ts'
import { Publisher } from './publisher.ts'
import { Streams } from './streams.ts'
import { Subscriptions } from './subscriptions.ts'
import { Survey } from './survey.ts'

/** The parts of an instance that know neither routes nor protocols. */
export interface Core {
  readonly hub: Hub
  readonly publisher: Publisher
  readonly methods: Methods
  readonly permissions: Permissions
  readonly subscriptions: Subscriptions
  readonly connections: Connections
  readonly listeners: Listeners
  readonly streams: Streams
  readonly registry: InstanceRegistry
  readonly control: Control
  readonly survey: Survey
  readonly occupancies: Occupancies
}

/** @param instance The id of this instance. */
export function createCore (
  instance: string, backend: Backend, namespaces: ChannelNamespaces, options: ResolvedOptions, observer: Observer
): Core {
  const { broker, presence } = backend
  const hub = new Hub(broker, namespaces, options.maxBufferedBytes / 2, observer)
  const publisher = new Publisher(instance, broker, namespaces, observer)
  const methods = new Methods(options.methods)
  const permissions = new Permissions(namespaces, options)
  const listeners = new Listeners(hub, namespaces, observer)
  const occupancies = new Occupancies(instance, backend, options, observer)
  const subscriptions = new Subscriptions(instance, hub, broker, presence, namespaces, occupancies.channels)
  const connections = new Connections(options, subscriptions, observer, occupancies.users)
  const registry = new InstanceRegistry(instance, connections, hub, presence)
  const control = new Control(instance, broker, connections, observer)
  const streams = new Streams(publisher, control, namespaces, options.maxBufferedBytes)
  const survey = new Survey(instance, broker, control, registry, observer)
  const forClients = { methods, permissions, subscriptions, connections }
  return { hub, publisher, ...forClients, listeners, streams, registry, control, survey, occupancies }
}
