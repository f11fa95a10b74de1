import type { FastifyRequest } from 'fastify'
import { checkUser } from '../../core/check-user.ts'
import type { Control, Target } from '../../core/control.ts'
import type { Publisher } from '../../core/publisher.ts'
import { checkFields } from '../../model/arguments.ts'
import { checkChannel } from '../../model/channel-rules.ts'
import { closeCodes } from '../../model/close-codes.ts'
import { InvalidArgumentError } from '../../model/errors.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Position } from '../../model/publication.ts'
import type { Observer } from '../../observability/observer.ts'
import { describe } from '../../util/thrown.ts'

/**
 * Publishes `{ channel, data }`. The log has who did it, and the channel, but not what was published.
 * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_DATA, or an error of Redis
 */
export async function publish (publisher: Publisher, observer: Observer, request: FastifyRequest, who: string): Promise<Partial<Position>> {
  checkFields('body', request.body as object, ['channel', 'data'])
  const { channel, data } = request.body as { channel: string, data: unknown }
  const payload = encodePayload(data)
  const fields = { who, channel: checkChannel(channel), bytes: payload.payload.length }
  return logged(() => publisher.publish(channel, payload), error => {
    observer.entry('inspect.published', { ...fields, ...error }, `${who} publishes to ${channel} from the page of inspectPath`, request)
  })
}

/**
 * Closes the connection `{ client }` or all of `{ user }` with 3503, which SDKs do not come back after.
 * @throws FST_CRWS_INVALID_ARGUMENT, or an error of Redis
 */
export async function disconnect (control: Control, observer: Observer, request: FastifyRequest, who: string): Promise<object> {
  const target = checkTarget(request.body)
  const { code, reason } = closeCodes.forceDisconnect
  const [kind, name] = Object.entries(target)[0] as [string, string]
  await logged(() => control.send({ type: 'disconnect', ...target, code, reason }), error => {
    // `user` is who is disconnected, as in the entries of connections; `connection` is the word for its id there.
    const fields = { who, [kind === 'client' ? 'connection' : kind]: name, ...error }
    observer.entry('inspect.disconnected', fields, `${who} disconnects ${kind} ${name} from the page of inspectPath`, request)
  })
  return {}
}

/** Logs what was done, and also what failed: it may have been done all the same. */
async function logged<Result> (run: () => Promise<Result>, log: (error?: { error: string }) => void): Promise<Result> {
  try {
    const result = await run()
    log()
    return result
  } catch (error) {
    log({ error: describe(error) })
    throw error
  }
}

function checkTarget (body: unknown): Target {
  checkFields('body', body as object, ['client', 'user'])
  const { client, user } = body as { client?: string, user?: string }
  if ((client === undefined) === (user === undefined)) throw new InvalidArgumentError('body', 'both or none', '{ client } or { user }')
  return client === undefined ? { user: checkUser(user) } : { client: checkUser(client, 'client') }
}
