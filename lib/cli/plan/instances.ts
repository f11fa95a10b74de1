import { appOf } from './app.ts'
import { CPU_TARGET } from './assumptions.ts'
import type { Input } from './input.ts'
import { largest } from './largest.ts'
import { instanceCpu } from './load.ts'
import { traffic } from './traffic.ts'
import costs from './unit-costs.json' with { type: 'json' }

export interface Instances {
  /** Connections to which each one is filled. */
  perInstance: number
  /** What keeps it from more. */
  limit: 'connections' | 'cpu'
  peak: number
  /** As a mean over the month. */
  mean: number
}

export interface Filling {
  /** Connections that an instance may be filled to. */
  connections: number
  /** So many, whatever its CPU says. */
  exactly?: number | undefined
  /** Instances that are always there. */
  least: number
  /** Seconds that a connection lives. */
  age: number
}

/** How many instances an app needs: by connections, or by CPU where that is full first. */
export function countInstances (input: Input, { connections: allowed, exactly, least, age }: Filling): Instances {
  const countAt = (perInstance: number, connections: number) => Math.max(least, Math.ceil(connections / perInstance))
  const cpuOf = (perInstance: number) => {
    const instances = countAt(perInstance, input.connections)
    const app = appOf(input, { connections: input.connections, instances, age })
    return instanceCpu(app, traffic(app), costs.instance) / instances / 1e6
  }
  const perInstance = exactly ?? largest(allowed, count => cpuOf(count) <= CPU_TARGET)
  return {
    perInstance,
    limit: exactly !== undefined || perInstance === allowed ? 'connections' : 'cpu',
    peak: countAt(perInstance, input.connections),
    mean: countAt(perInstance, input.average)
  }
}

/** Bytes of memory of an instance at its fill, without what the app itself keeps. */
export function instanceMemory ({ perInstance }: Instances): number {
  return costs.instance.residentBytes + perInstance * costs.instance.connectionBytes
}

/** Share of a core that an instance takes at the peak. */
export function instanceLoad (input: Input, { peak }: Instances, age: number): number {
  const app = appOf(input, { connections: input.connections, instances: peak, age })
  return instanceCpu(app, traffic(app), costs.instance) / peak / 1e6
}
