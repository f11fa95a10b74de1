import { OAuth2Client } from 'google-auth-library'

const problem = (statusCode, message) => Object.assign(new Error(message), { statusCode })

/**
 * A route that takes push messages of Google Pub/Sub and publishes each to the channel that its attribute `channel`
 * names. Pub/Sub takes 204 for an acknowledgement, and sends the message again after any other answer: later, and after
 * as many attempts as its dead-letter policy says, to the dead-letter topic.
 * @param {import('fastify').FastifyInstance} app
 * @param {object} options
 * @param {(channel: string, data: unknown, options: { idempotencyKey: string }) => Promise<unknown>} options.publish
 *   `publish` of a publisher, or of `app.realtime`.
 * @param {string} options.audience What the subscription has as `--push-auth-token-audience`.
 * @param {string} options.serviceAccount What it has as `--push-auth-service-account`.
 * @param {(channel: string) => boolean} options.allows Which channels messages may name.
 * @param {OAuth2Client} [options.client]
 */
export async function pubsubPush (app, { publish, audience, serviceAccount, allows, client = new OAuth2Client() }) {
  app.post('/', { onRequest: verify }, async (request, reply) => {
    const { channel, messageId, data } = messageOf(request.body)
    if (!allows(channel)) throw problem(400, `no message may be published to the channel ${channel}`)
    // A message that comes again, because this answer got lost, repeats nothing within five minutes.
    await publish(channel, data, { idempotencyKey: `pubsub:${messageId}` }) // while Redis is down: 503, so it comes again
    return reply.code(204).send()
  })

  /** Anybody can reach the route: only Google can sign a token with this audience for this account. */
  async function verify (request) {
    const [, idToken] = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '') ?? []
    if (idToken === undefined) throw problem(401, 'there is no token')
    await client.getFederatedSignonCerts().catch((error) => { // kept for as long as Google says
      request.log.error({ err: error }, "Google's certificates cannot be fetched, so no token can be verified")
      throw problem(503, 'tokens cannot be verified at the moment')
    })
    const payload = await client.verifyIdToken({ idToken, audience }).then(ticket => ticket.getPayload(), (error) => {
      request.log.warn({ err: error }, 'the token of a push message was refused')
      throw problem(401, 'the token is not valid')
    })
    if (payload?.email !== serviceAccount || !payload.email_verified) throw problem(403, 'the token is for another account')
  }
}

function messageOf (body) {
  const { data, messageId, attributes } = body?.message ?? {}
  if (typeof messageId !== 'string' || messageId === '') throw problem(400, 'this is not a push message of Pub/Sub')
  if (typeof attributes?.channel !== 'string') throw problem(400, `message ${messageId} has no attribute channel`)
  try {
    return { channel: attributes.channel, messageId, data: JSON.parse(Buffer.from(data, 'base64').toString()) }
  } catch {
    throw problem(400, `message ${messageId} is not JSON`)
  }
}
