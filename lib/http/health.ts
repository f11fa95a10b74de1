import type { FastifyInstance } from 'fastify'
import type { Broker } from '../model/broker.ts'
import type { Control } from '../core/control.ts'
import type { Drain } from '../lifecycle/drain.ts'
import type { Instance } from '../core/connections.ts'
import type { Memory } from '../lifecycle/memory-guard.ts'
import type { Observer } from '../observability/observer.ts'

/** Cloud Run's probes must not be refused, and must not fill the log. */
const probe = { logLevel: 'silent', config: { rateLimit: false } } as const

/** Alive as long as it answers: a Redis that is away is no reason to restart. */
export function addHealthRoute (app: FastifyInstance, path: string, instance: Instance): void {
  app.get(path, probe, async () => ({ status: 'ok', connections: instance.connections.size, instance: instance.id }))
}

/** Whether new connections should come here. Those that are here stay. */
export function addReadyRoute (app: FastifyInstance, path: string, instance: Instance, broker: Broker, control: Control, drain: Drain, memory: Memory, observer: Observer): void {
  let started = false
  app.addHook('onReady', async () => { started = true })
  app.get(path, probe, async (_request, reply) => {
    const reasons: string[] = []
    if (!started) reasons.push('starting')
    if (drain.started) reasons.push('draining')
    if (instance.full) reasons.push('full')
    if (memory.short) reasons.push('memory')
    if (!broker.up || !control.listens) reasons.push('redis')
    observer.probed(reasons, Date.now())
    reply.code(reasons.length === 0 ? 200 : 503)
    return { status: reasons.length === 0 ? 'ready' : 'unavailable', reasons, instance: instance.id }
  })
}
