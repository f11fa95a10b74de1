import { appOf } from './app.ts'
import {
  AGE_SHARE, CLOUD_RUN_TIMEOUT, FLEX, NODE_MEMORY, NODE_VCPU, OVERLAP, POD, SET_AGE_SHARE
} from './assumptions.ts'
import { countInstances, instanceLoad, instanceMemory } from './instances.ts'
import type { Instances } from './instances.ts'
import type { Input } from './input.ts'
import { egress, fixed, loadBalancer, logs, metrics } from './parts.ts'
import type { Part } from './parts.ts'
import { HOURS, sum } from './prices.ts'
import type { Prices } from './prices.ts'
import { sizeRedis } from './redis.ts'
import type { Redis } from './redis.ts'
import { traffic } from './traffic.ts'

export type PlatformId = 'cloud-run' | 'gke' | 'gke-spot' | 'gke-autopilot' | 'app-engine'

export interface Platform {
  id: PlatformId
  name: string
  instances: Instances
  /** Machines under them, of GKE Standard, at the peak. */
  nodes: number | undefined
  /** Share of a core that an instance takes at the peak. */
  cores: number
  /** Bytes. */
  memory: number
  redis: Redis
  parts: Part[]
  /** Dollars of all parts whose price is known. */
  month: number
  /** Parts whose price is not known. They are not in `month`. */
  unknown: string[]
  perConnection: number
  /** Dollars of one deployment, at most: what runs at the peak, twice for an hour. */
  deployment: number | undefined
}

interface Kind {
  id: PlatformId
  name: string
  age: number
  requestLogs: boolean
  instances: Instances
  redis: Redis
  nodes?: number
  /** Dollars an hour of so many instances. */
  hour (count: number): number | undefined
  extra (flow: ReturnType<typeof traffic>): Part[]
}

const REQUEST_AGE = CLOUD_RUN_TIMEOUT * AGE_SHARE
const POD_AGE = POD.maxAge * SET_AGE_SHARE

export function makePlatforms (input: Input, prices: Prices): Platform[] {
  return [cloudRun(input, prices), ...gke(input, prices), appEngine(input, prices)].map(kind => makePlatform(input, prices, kind))
}

function makePlatform (input: Input, prices: Prices, { id, name, age, requestLogs, instances, redis, nodes, hour, extra }: Kind): Platform {
  const app = appOf(input, { connections: input.average, instances: instances.mean, age })
  const flow = traffic(app)
  const perHour = hour(instances.mean)
  const all: Part[] = [
    { name: 'instances', month: perHour === undefined ? undefined : perHour * HOURS },
    ...extra(flow),
    { name: 'Redis', month: redis.month },
    egress(flow, prices),
    logs(flow, prices, { requests: requestLogs }),
    metrics(instances.mean, prices),
    ...fixed(prices)
  ]
  const known = all.filter((part): part is Part & { month: number } => part.month !== undefined)
  const month = known.reduce((total, part) => total + part.month, 0)
  const atPeak = hour(instances.peak)
  return {
    id,
    name,
    instances,
    nodes,
    cores: instanceLoad(input, instances, age),
    memory: instanceMemory(instances),
    redis,
    parts: all,
    month,
    unknown: all.filter(part => part.month === undefined).map(part => part.name),
    perConnection: month / input.connections,
    deployment: atPeak === undefined ? undefined : atPeak * OVERLAP
  }
}

function cloudRun (input: Input, prices: Prices): Kind {
  const instances = countInstances(input, {
    connections: Math.max(1, Math.floor(input.concurrency * input.target)),
    exactly: input.perInstance,
    least: input.minInstances,
    age: REQUEST_AGE
  })
  const hour = (count: number) => sum([
    prices.times('runVcpuSecond', count * 3_600 * input.vcpu),
    prices.times('runGibSecond', count * 3_600 * input.memory)
  ])
  return {
    id: 'cloud-run',
    name: 'Cloud Run',
    age: REQUEST_AGE,
    requestLogs: true,
    instances,
    redis: sizeRedis(input, instances, REQUEST_AGE, prices),
    hour,
    extra: flow => [freeTier(hour(instances.mean), prices), ...input.loadBalancer ? [loadBalancer(flow, prices)] : []]
  }
}

/** It is a sum of money, and no more than what the instances cost. */
function freeTier (perHour: number | undefined, prices: Prices): Part {
  const free = prices.of('runFree')
  return { name: 'free tier', month: perHour === undefined || free === undefined ? undefined : -Math.min(free, perHour * HOURS) }
}

/** A node may go at any time. */
const LEAST_NODES = 2

function gke (input: Input, prices: Prices): Kind[] {
  const instances = countInstances(input, { connections: POD.target, least: POD.least, age: POD_AGE })
  const perNode = Math.max(1, Math.floor(Math.min(NODE_VCPU / input.vcpu, NODE_MEMORY / input.memory)))
  const nodesFor = (pods: number) => Math.max(LEAST_NODES, Math.ceil(pods / perNode))
  const cluster: Part = { name: 'cluster', month: prices.times('gkeClusterHour', HOURS) }
  const common = {
    age: POD_AGE,
    requestLogs: false,
    instances,
    redis: sizeRedis(input, instances, POD_AGE, prices),
    extra: (flow: ReturnType<typeof traffic>) => [cluster, loadBalancer(flow, prices)]
  }
  const nodes = nodesFor(instances.peak)
  return [
    { ...common, id: 'gke', name: 'GKE', nodes, hour: count => prices.times('gkeNodeHour', nodesFor(count)) },
    { ...common, id: 'gke-spot', name: 'GKE on Spot', nodes, hour: count => prices.times('gkeSpotNodeHour', nodesFor(count)) },
    {
      ...common,
      id: 'gke-autopilot',
      name: 'GKE Autopilot',
      hour: count => sum([prices.times('autopilotVcpuHour', count * input.vcpu), prices.times('autopilotGibHour', count * input.memory)])
    }
  ]
}

function appEngine (input: Input, prices: Prices): Kind {
  const instances = countInstances(input, { connections: FLEX.target, least: FLEX.least, age: REQUEST_AGE })
  return {
    id: 'app-engine',
    name: 'App Engine flexible',
    age: REQUEST_AGE,
    requestLogs: true,
    instances,
    redis: sizeRedis(input, instances, REQUEST_AGE, prices),
    hour: count => sum([
      prices.times('flexVcpuHour', count * input.vcpu),
      prices.times('flexGibHour', count * Math.max(input.memory, FLEX.memory)),
      prices.times('flexDiskGib', count * FLEX.disk / HOURS)
    ]),
    extra: () => []
  }
}
