import type { Hub } from '../../lib/hub/hub.ts'
import type { Subscriber, SubscriberOutbox } from '../../lib/hub/subscriber.ts'
import { Subscription } from '../../lib/hub/subscription.ts'
import type { Batch, Encoder, Frame } from '../../lib/model/encoder.ts'
import { decodePayload } from '../../lib/model/publication.ts'
import type { Position, Publication } from '../../lib/model/publication.ts'
import type { Entry, Numbered } from '../faults/checker.ts'
import type { Random } from './random.ts'
import { Wire } from './wire.ts'

/** Milliseconds until a client tries again. */
const RETRY: [number, number] = [20, 400]

/** A frame that still has its publication. */
interface PublicationFrame extends Frame { readonly publication: Publication }

const NOTHING = Buffer.alloc(0)

const encoder = {
  name: 'json',
  transport: 'websocket',
  publication: (_channel, publication): PublicationFrame => ({ payload: NOTHING, binary: false, publication })
} as Partial<Encoder> as Encoder

/** What an instance has of a client: its connection. */
class ServerSide implements Subscriber {
  readonly id = 'simulated'
  readonly encoder = encoder
  readonly outbox: SubscriberOutbox
  open = true
  flushedBy = 0
  readonly subscription: Subscription
  readonly #lost: () => void

  constructor (channel: string, send: (publication: Publication) => void, lost: () => void) {
    this.subscription = new Subscription(this, channel, false)
    this.#lost = lost
    this.outbox = {
      bufferedBytes: 0,
      writeBatch: ({ frames }: Batch) => { for (const frame of frames) send((frame as PublicationFrame).publication) },
      cork () {},
      uncork () {},
      isCongested: () => false
    }
  }

  write (): boolean { return this.open }
  flush (): void { this.subscription.flush() }
  positionLost (): void { this.#lost() }
}

/** A client with one subscription, which behaves as the SDKs do: it comes back, and names its position. */
export class SimulatedClient {
  readonly name: string
  readonly channel: string
  readonly log: Entry[] = []
  readonly #acknowledged: readonly unknown[]
  readonly #random: Random
  readonly #hub: () => Hub | undefined
  #position: Position | undefined
  #wire: Wire | undefined
  #server: ServerSide | undefined
  #wanted = false

  /** @param hub That of the instance which a new connection gets; undefined while there is none. */
  constructor (name: string, channel: string, acknowledged: readonly unknown[], random: Random, hub: () => Hub | undefined) {
    this.name = name
    this.channel = channel
    this.#acknowledged = acknowledged
    this.#random = random
    this.#hub = hub
  }

  get subscribed (): boolean { return this.#server?.subscription.state === 'live' }

  /** The hub of its instance. */
  hub: Hub | undefined

  subscribe (): void {
    if (this.#wanted) return
    this.#wanted = true
    this.#connect()
  }

  /** Leaves of its own accord. It has its position when it comes back, unless it forgets it. */
  unsubscribe (forget: boolean): void {
    this.#wanted = false
    this.cut()
    if (forget) this.#position = undefined
  }

  /** Its connection breaks; what was under way does not arrive. */
  cut (): void {
    this.#wire?.end()
    this.#wire = undefined
    this.hub = undefined
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    server.open = false
    server.subscription.end()
    this.#connectLater()
  }

  #connectLater (): void {
    setTimeout(() => this.#connect(), this.#random.between(...RETRY))
  }

  #connect (): void {
    if (!this.#wanted || this.#server !== undefined) return
    const hub = this.hub = this.#hub()
    if (hub === undefined) return this.#connectLater()
    const wire = this.#wire = new Wire(this.#random)
    const server = this.#server = new ServerSide(
      this.channel,
      publication => wire.down(() => this.#received(publication)),
      () => this.#endBy(server, wire)
    )
    wire.request(() => this.#join(hub, server, wire), () => {})
  }

  async #join (hub: Hub, server: ServerSide, wire: Wire): Promise<void> {
    const { subscription } = server
    if (!server.open) return
    subscription.since = this.#position && { ...this.#position }
    try {
      await hub.join(subscription, true)
    } catch {
      return this.#endBy(server, wire)
    }
    if (!server.open) return subscription.end()
    const recovery = subscription.admit()
    if (recovery === undefined) return this.#endBy(server, wire) // a gap
    const { offset, epoch, recovered, missed, live } = recovery
    wire.down(() => {
      this.log.push({ kind: 'subscribed', recovered, offset, epoch, acked: this.#acknowledged.length })
      this.#position = epoch === '' ? undefined : { offset, epoch }
      if (recovered) for (const publication of missed) this.#received(publication)
    })
    for (const publication of live) wire.down(() => this.#received(publication))
  }

  /** The server ends the subscription and says so. */
  #endBy (server: ServerSide, wire: Wire): void {
    if (!server.open) return
    server.subscription.end()
    server.open = false
    wire.down(() => { if (this.#server === server) this.cut() })
  }

  #received (publication: Publication): void {
    const { publisher, number } = decodePayload(publication) as Numbered
    this.log.push({ kind: 'publication', publisher, number, offset: publication.offset })
    if (publication.offset > 0 && this.#position !== undefined) this.#position.offset = publication.offset
  }
}
