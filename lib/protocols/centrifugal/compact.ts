import type { Frame } from '../../model/encoder.ts'
import type { Publication } from '../../model/publication.ts'
import type { PushEncoder, SdkEncoder } from './encoder.ts'
import type { WholeEncoder } from './filter.ts'
import { eventPush, replyPublication } from './replies.ts'
import type { ReplyPublication } from './schema.ts'
import { Variants } from './variants.ts'

/**
 * Names of the SDKs that find a subscription by its number also in Protobuf. In centrifuge-js (5.8.0) numbers of
 * Protobuf are objects, and no two are the same to it: it would drop every publication. An app may give its clients
 * another name, so a name that is not known gets no numbers.
 */
const IN_PROTOBUF: ReadonlySet<string> = new Set(['swift', 'java', 'dart', 'csharp', 'go', 'python'])

/** True for a client that can be sent numbers, if it offers to take them. `name`: what it called itself. */
export function takesNumbers (encoder: SdkEncoder, name = ''): boolean {
  return encoder.name === 'json' || IN_PROTOBUF.has(name)
}

/** The number that a channel got last. None is given twice: a client may still know it as that of another channel. */
let lastNumber = 0

/** For the subscriptions of a channel whose clients know it by a number: it takes the place of the name in pushes. */
class CompactEncoder implements WholeEncoder, PushEncoder {
  readonly name: PushEncoder['name']
  readonly number = ++lastNumber
  readonly #base: SdkEncoder

  constructor (base: SdkEncoder) {
    this.name = base.name
    this.#base = base
  }

  publication (channel: string, publication: Publication): Frame {
    return this.push(channel, replyPublication(publication))
  }

  push (_channel: string, pub: ReplyPublication): Frame {
    return this.#base.frame({ push: { id: this.number, pub } })
  }

  join (frames: readonly Frame[]): readonly Frame[] {
    return this.#base.join(frames)
  }

  event (_channel: string, event: Publication): Frame {
    return this.#base.frame({ push: { id: this.number, ...eventPush(event) } })
  }
}

const compactOf = new WeakMap<SdkEncoder, Variants<CompactEncoder>>()

/** Returns the encoder of all subscriptions of the channel whose clients take numbers, in the encoding of `base`. */
export function compactEncoder (base: SdkEncoder, channel: string): CompactEncoder {
  let encoders = compactOf.get(base)
  if (encoders === undefined) compactOf.set(base, encoders = new Variants())
  return encoders.get(channel, () => new CompactEncoder(base))
}
