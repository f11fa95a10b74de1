import type { FastifyInstance } from 'fastify'

/**
 * Fastify's option `trustProxy`, which is not in `app.initialConfig`. undefined if it cannot be found either where
 * Fastify 5 keeps its options.
 */
export function trustProxyOf (app: FastifyInstance): unknown {
  for (let instance: object | null = app; instance !== null; instance = Object.getPrototypeOf(instance)) {
    const key = Object.getOwnPropertySymbols(instance).find(({ description }) => description === 'fastify.options')
    if (key !== undefined) return (instance as Record<symbol, { trustProxy?: unknown } | undefined>)[key]?.trustProxy
  }
  return undefined
}
