import type { FastifyRequest } from 'fastify'
import type { Duplex, Readable } from 'node:stream'
import { BodiesError, BodyTimeoutError, BodyTooLargeError, StreamRequestError } from '../../model/errors.ts'
import type { Deadlines, Expiring } from '../../util/deadlines.ts'

/** Milliseconds within which a body must come. */
const TIMEOUT = 10_000
const GONE = 'the client has gone'

/**
 * Listens to errors; 'close' follows each. It stays with a request for as long as its stream is open, so it knows
 * nothing of the body.
 */
const ignore = () => {}

type Done = (error: Error | null, body?: Buffer) => void

/**
 * Reads the body of a request, whatever its type. `limit`: bytes. `told`: the limit to name in an error. `most`: bodies
 * that may be under way at once. Nobody has been asked yet who the clients are.
 * @throws FST_CRWS_BODY_TOO_LARGE, FST_CRWS_BODY_TIMEOUT, FST_CRWS_BODIES, FST_CRWS_STREAM_REQUEST
 */
export function bodyReader (limit: number, told: number, most: number, deadlines: Deadlines) {
  let underWay = 0
  return ({ headers, raw }: FastifyRequest, payload: Readable, done: Done): void => {
    const { stream } = raw as { stream?: Duplex } // HTTP/2 tells of the end there
    if (payload.destroyed || stream?.destroyed === true) return done(new StreamRequestError(GONE)) // it would not say so again
    if (Number(headers['content-length']) > limit) return done(new BodyTooLargeError(told))
    if (underWay >= most) return done(new BodiesError(underWay))
    underWay++
    const chunks: Buffer[] = []
    let length = 0
    const end = (error: Error | null, body?: Buffer) => {
      underWay--
      deadlines.delete(late)
      payload.off('data', onData).off('end', onEnd).off('close', onClose)
      done(error, body)
    }
    const onData = (chunk: Buffer) => {
      length += chunk.length
      if (length > limit) end(new BodyTooLargeError(told))
      else chunks.push(chunk)
    }
    const onEnd = () => end(null, Buffer.concat(chunks, length))
    const onClose = () => end(new StreamRequestError(GONE))
    const late: Expiring = { expiresAt: Date.now() + TIMEOUT, expire: () => end(new BodyTimeoutError(TIMEOUT / 1_000)) }
    deadlines.add(late)
    payload.on('data', onData).on('end', onEnd).on('close', onClose).on('error', ignore)
  }
}
