import type { FastifyInstance } from 'fastify'
import type { Broker } from '../model/broker.ts'
import type { Control } from '../core/control.ts'
import type { Drain } from '../lifecycle/drain.ts'
import type { Hints } from '../observability/hints/hints.ts'
import type { Connections } from '../core/connections.ts'
import type { Memory } from '../lifecycle/memory-guard.ts'

/** Cloud Run's probes must not be refused, and must not fill the log. */
const probe = { logLevel: 'silent', config: { rateLimit: false } } as const

/** Alive as long as it answers: a Redis that is away is no reason to restart. */
export function addHealthRoute (app: FastifyInstance, path: string, connections: Connections, instance: string): void {
  app.get(path, probe, async () => ({ status: 'ok', connections: connections.size, instance }))
}

/** Whether new connections should come here. Those that are here stay. */
export function addReadyRoute (app: FastifyInstance, path: string, instance: string, connections: Connections, broker: Broker, control: Control, drain: Drain, memory: Memory, hints: Hints): void {
  let started = false
  app.addHook('onReady', async () => { started = true })
  app.get(path, probe, async (_request, reply) => {
    const reasons: string[] = []
    if (!started) reasons.push('starting')
    if (drain.started) reasons.push('draining')
    if (connections.full) reasons.push('full')
    if (memory.short) reasons.push('memory')
    if (!broker.up || !control.listens) reasons.push('redis')
    hints.probed(reasons, Date.now())
    reply.code(reasons.length === 0 ? 200 : 503)
    return { status: reasons.length === 0 ? 'ready' : 'unavailable', reasons, instance }
  })
}
