// What schemas.mjs measures: a namespace in which SDK clients publish, with the schema that BENCH_SCHEMA names.
import Fastify from 'fastify'
import { z } from 'zod'
import { measured } from './measured.mjs'

const { default: cloudRunWebSocket } = await import(process.env.BENCH_PLUGIN)

const schemas = {
  json: {
    type: 'object',
    required: ['text', 'n', 'tags'],
    additionalProperties: false,
    properties: { text: { type: 'string', maxLength: 500 }, n: { type: 'integer' }, tags: { type: 'array', items: { type: 'string' } } }
  },
  zod: z.object({ text: z.string().max(500), n: z.int(), tags: z.array(z.string()) })
}
const schema = schemas[process.env.BENCH_SCHEMA]

const app = Fastify()
await app.register(cloudRunWebSocket, {
  redis: process.env.REDIS_URL,
  rateLimit: false,
  shutdown: false,
  // Only what is asked for: another build may be from before there were schemas.
  channels: { chat: { publish: true, ...schema && { schema } } }
})
await app.listen({ port: 0, host: '127.0.0.1' })
await measured(app.server)
