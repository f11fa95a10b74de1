import type { Encoder } from '../../model/encoder.ts'
import { plainEncoder } from './session.ts'

/** `plain.envelope`: every publication says which channel it is from, and which position it has. */
export const envelopeEncoder: Encoder = {
  ...plainEncoder,
  publication (channel, { kind, payload, offset, epoch, tags, publisher }) {
    const position = offset > 0 ? `"offset":${offset},"epoch":${JSON.stringify(epoch)},` : ''
    const head = `{"channel":${JSON.stringify(channel)},${position}"data":`
    const extra = `${tags === undefined ? '' : `,"tags":${JSON.stringify(tags)}`}${publisher === undefined ? '' : `,"info":${JSON.stringify(publisher)}`}}`
    switch (kind) {
      case 'binary': return frame(`${head}"${payload.toString('base64')}","encoding":"base64"${extra}`)
      case 'text': return frame(`${head}${JSON.stringify(payload.toString())}${extra}`)
      // JSON goes from the publisher to the client as bytes: it is neither parsed nor copied into a string.
      default: return { payload: Buffer.concat([Buffer.from(head), payload, Buffer.from(extra)]), binary: false }
    }
  },
  event (channel, { kind, payload }) {
    return frame(`{"channel":${JSON.stringify(channel)},"${kind}":${payload.toString()}}`)
  }
}

function frame (text: string): { payload: Buffer, binary: false } {
  return { payload: Buffer.from(text), binary: false }
}
