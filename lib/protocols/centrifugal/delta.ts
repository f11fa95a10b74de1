import { isUtf8 } from 'node:buffer'
import type { Subscription } from '../../hub/subscription.ts'
import type { ChannelNamespaces } from '../../model/channel-rules.ts'
import type { Frame, PublicationEncoder } from '../../model/encoder.ts'
import type { Payload, Publication } from '../../model/publication.ts'
import type { PushEncoder } from './encoder.ts'
import { createDelta } from './fossil-delta.ts'
import { replyPublication } from './replies.ts'
import type { ToReply } from './replies.ts'
import type { ReplyPublication, RequestOf } from './schema.ts'

/** Decides who gets publications as deltas, and has the encoders for them. */
export class Deltas {
  readonly #namespaces: ChannelNamespaces
  readonly #patches = new Patches()
  readonly #encoders = new WeakMap<PushEncoder, DeltaEncoder>()

  constructor (namespaces: ChannelNamespaces) {
    this.#namespaces = namespaces
  }

  /**
   * Gives the subscription an encoder that patches, if the client asks for it and the namespace has it. It stands on
   * the one that the subscription has.
   */
  negotiate (subscription: Subscription, { delta = '' }: RequestOf<'subscribe'>): DeltaEncoder | undefined {
    if (delta === '' || !this.#namespaces.rules(subscription.channel).delta) return undefined
    const encoder = subscription.encoder as PushEncoder // every encoder of this folder is one
    let own = this.#encoders.get(encoder)
    if (own === undefined) this.#encoders.set(encoder, own = new DeltaEncoder(encoder, this.#patches))
    subscription.encoder = own
    return own
  }
}

/** Encodes publications for clients that have negotiated deltas, in one encoding. */
class DeltaEncoder implements PublicationEncoder {
  readonly patches = true
  readonly #encoder: PushEncoder
  readonly #patches: Patches

  constructor (encoder: PushEncoder, patches: Patches) {
    this.#encoder = encoder
    this.#patches = patches
  }

  publication (channel: string, publication: Publication, previous?: Publication): Frame {
    return this.#encoder.push(channel, this.#encode(publication, previous))
  }

  join (frames: readonly Frame[]): readonly Frame[] {
    return this.#encoder.join(frames)
  }

  event (channel: string, event: Publication): Frame | undefined {
    return this.#encoder.event(channel, event)
  }

  /** Each publication of a list against the one before, the first in full. */
  readonly toReply: ToReply = (publication, i, all) => this.#encode(publication, all[i - 1])

  /** In JSON the data is a string: that of the full value, or the patch. */
  #encode (publication: Publication, previous: Publication | undefined): ReplyPublication {
    const asText = this.#encoder.name === 'json'
    const kind = asText ? 'text' : 'binary'
    const patch = previous && this.#patches.of(previous, publication, asText)
    const pub = replyPublication(publication)
    return patch === undefined
      ? { ...pub, data: { kind, payload: asText ? textOf(publication) : bytesOf(publication) } }
      : { ...pub, data: { kind, payload: patch }, delta: true }
  }
}

interface Patch {
  /** Not held: each publication would keep the one before, and so all that were published. */
  readonly previous: WeakRef<Publication>
  /** undefined: the publication is sent in full. */
  readonly bytes: Buffer | undefined
  /** True if the values are text in JSON, too. Then the patch is text. */
  readonly isText: boolean
}

/** The patch between two publications, made once for all encodings and transports. */
class Patches {
  readonly #patches = new WeakMap<Publication, Patch>()

  of (previous: Publication, publication: Publication, asText: boolean): Buffer | undefined {
    let patch = this.#patches.get(publication)
    if (patch?.previous.deref() !== previous) this.#patches.set(publication, patch = newPatch(previous, publication))
    return asText && !patch.isText ? undefined : patch.bytes
  }
}

function newPatch (previous: Publication, publication: Publication): Patch {
  const base = bytesOf(previous)
  const target = bytesOf(publication)
  // Binary data is base64 in JSON, which is never worth a patch: it moves with every byte.
  const isText = previous.kind !== 'binary' && publication.kind !== 'binary' && isUtf8(base) && isUtf8(target)
  return { previous: new WeakRef(previous), bytes: createDelta(base, target), isText }
}

/** The value as clients have it: JSON, or what was published in bytes. */
function bytesOf ({ kind, payload }: Pick<Publication, 'kind' | 'payload'>): Buffer {
  return kind === 'text' ? Buffer.from(JSON.stringify(payload.toString())) : payload
}

/** The value as JSON clients parse it. */
function textOf ({ kind, payload }: Pick<Payload | Publication, 'kind' | 'payload'>): Buffer {
  return kind === 'binary' ? Buffer.from(JSON.stringify(payload.toString('base64'))) : bytesOf({ kind, payload })
}
