import { createClient } from 'redis'

/** Pub/Sub with node-redis as its README shows it, for the servers that are written by hand. */
export async function connectRedis () {
  const publisher = createClient({ url: process.env.REDIS_URL })
  publisher.on('error', console.error)
  const subscriber = publisher.duplicate()
  subscriber.on('error', console.error)
  await Promise.all([publisher.connect(), subscriber.connect()])
  return { publisher, subscriber }
}
