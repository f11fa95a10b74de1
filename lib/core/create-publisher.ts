import { randomBytes } from 'node:crypto'
import { createBackend } from '../backends/backend.ts'
import type { BrokerListener } from '../model/broker.ts'
import { ChannelNamespaces } from '../model/channel-rules.ts'
import { PublisherClosedError } from '../model/errors.ts'
import type { Observer } from '../observability/observer.ts'
import { publisherObserver } from '../observability/publisher-observer.ts'
import { resolvePublisherOptions } from '../options/publisher-options.ts'
import type { PublisherOptions } from '../options/publisher-options.ts'
import { controlCalls } from './control-calls.ts'
import type { ControlCalls } from './control-calls.ts'
import { commandSender } from './control.ts'
import { presenceCalls } from './presence-calls.ts'
import type { PresenceCalls } from './presence-calls.ts'
import { publishCalls } from './publish-calls.ts'
import type { PublishCalls } from './publish-calls.ts'
import { Publisher } from './publisher.ts'

/**
 * The calls of `app.realtime` that need no connections, for a process without the plugin. After `close` each of them
 * rejects with FST_CRWS_PUBLISHER_CLOSED.
 */
export interface StandalonePublisher extends PublishCalls, PresenceCalls, ControlCalls, AsyncDisposable {
  /**
   * Waits for the calls under way, two seconds at the most, and disconnects from Redis. The process then ends by
   * itself, if nothing else keeps it running. Never rejects; a second call waits for the same.
   */
  close (): Promise<void>
}

type Calls = PublishCalls & PresenceCalls & ControlCalls
/** Whatever a call takes and returns, it is handed on. */
type AnyCall = (...args: never[]) => Promise<unknown>

/**
 * Creates a publisher for a process without Fastify: a worker, a cron job, a function. It has one connection to Redis,
 * and listens to no channel. Resolves when Redis is up, after two seconds at the latest. While Redis is down, calls
 * reject.
 * @throws FST_CRWS_UNKNOWN_OPTION, FST_CRWS_INVALID_OPTION (also without a Redis)
 * @example
 * import { createPublisher } from 'fastify-cloud-run-websocket'
 *
 * await using publisher = await createPublisher({ redis: 'redis://10.0.0.3:6379' })
 * await publisher.publish('news', { text: 'hello' })
 */
export async function createPublisher (options: PublisherOptions = {}): Promise<StandalonePublisher> {
  const resolved = resolvePublisherOptions(options)
  const instance = randomBytes(6).toString('base64url')
  const namespaces = new ChannelNamespaces(resolved.channels)
  const { kind, broker, presence } = createBackend(resolved, false)
  const observer = await publisherObserver(instance, resolved, namespaces, kind, options.logger)
  await broker.start(brokerListener(observer))
  const pending = new Set<Promise<unknown>>()
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= Promise.allSettled(pending).then(() => broker.close())
    return closed
  }
  const calls: Calls = {
    ...publishCalls(new Publisher(instance, broker, namespaces, observer), observer),
    ...presenceCalls(presence, observer),
    ...controlCalls(commandSender(instance, broker), observer)
  }
  return { ...untilClosed(calls, pending, () => closed !== undefined), close, [Symbol.asyncDispose]: close }
}

/**
 * Keeps what is under way in `pending`. Each promise is a new one, which nobody has handled yet: a rejection that the
 * program forgets ends it, as anywhere in Node.js. In the plugin it must not, since clients can cause it.
 */
function untilClosed (calls: Calls, pending: Set<Promise<unknown>>, isClosed: () => boolean): Calls {
  const wrap = (name: string, call: AnyCall): AnyCall => async (...args) => {
    if (isClosed()) throw new PublisherClosedError(name)
    const promise = call(...args)
    pending.add(promise)
    try {
      return await promise
    } finally {
      pending.delete(promise)
    }
  }
  const wrapped = Object.entries<AnyCall>({ ...calls }).map(([name, call]) => [name, wrap(name, call)] as const)
  return Object.fromEntries(wrapped) as Record<keyof Calls, AnyCall> as Calls
}

function brokerListener (observer: Observer): BrokerListener {
  return {
    missed: (channel, count, reason) => observer.missed(channel, count, reason),
    stillDown: reason => observer.brokerStillDown(reason),
    stateChanged: (up, reason) => up ? observer.brokerUp() : observer.brokerDown(reason)
  }
}
