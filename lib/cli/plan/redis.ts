import { appOf } from './app.ts'
import { REDIS_SHARE, VALKEY_WRITABLE } from './assumptions.ts'
import type { Input } from './input.ts'
import type { Instances } from './instances.ts'
import { carried, hottestChannel, MAX_SHARDS, redisCpu, redisMemory, shardsNeeded } from './load.ts'
import type { Prices } from './prices.ts'
import { HOURS } from './prices.ts'
import { traffic } from './traffic.ts'
import type { App } from './traffic.ts'
import costs from './unit-costs.json' with { type: 'json' }

export interface Redis {
  product: string
  nodeType: string | undefined
  /** Of Memorystore for Redis, whose nodes have no types. */
  gib: number | undefined
  /** undefined: no number of shards is enough. */
  shards: number | undefined
  replicas: number
  /** Of all shards, at the peak. */
  load: {
    publications: number
    commands: number
    messages: number
    /** Shares of one core: with a write for each message, and with several in a write. */
    cores: number
    coresAtBest: number
    /** Of the busiest channel, which no shard can share with another. */
    hottestChannel: number
    memoryBytes: number
  }
  /** Connections at which one core would be 60% full, and full, all else growing with them. */
  oneCore: { at60Percent: number, full: number }
  month: number | undefined
}

const GIB = 1 << 30
/** GB of a node, and the name of its price. shared-core-nano has no SLA. */
const NODES = [
  { type: 'standard-small', bytes: 6.5e9, price: 'valkeyStandardSmall' },
  { type: 'highmem-medium', bytes: 13e9, price: 'valkeyHighmemMedium' }
] as const
const BASIC_GIB = 4

export function sizeRedis (input: Input, instances: Instances, age: number, prices: Prices): Redis {
  const app = appOf(input, { connections: input.connections, instances: instances.peak, age })
  const flow = traffic(app)
  const memory = redisMemory(app, flow, costs.memory)
  const shards = shardsNeeded(app, costs.redis, REDIS_SHARE)
  const atBest = { ...costs.redis, message: costs.redis.messageTogether }
  const chosen = input.redis === 'valkey' ? chooseValkey(input, memory, shards, prices) : chooseRedis(input, memory, shards, prices)
  return {
    ...chosen,
    replicas: input.replicas,
    load: {
      publications: input.messages,
      commands: flow.commands.reduce((total, { rate }) => total + rate, 0),
      messages: flow.messages,
      cores: redisCpu(flow, costs.redis) / 1e6,
      coresAtBest: redisCpu(flow, atBest) / 1e6,
      hottestChannel: hottestChannel(app, costs.redis) / 1e6,
      memoryBytes: memory
    },
    oneCore: oneCore(input, instances, age)
  }
}

type Choice = Pick<Redis, 'product' | 'nodeType' | 'gib' | 'shards' | 'month'>

function chooseValkey (input: Input, memory: number, shards: number | undefined, prices: Prices): Choice {
  const product = shards === 1 ? 'Memorystore for Valkey, cluster mode disabled' : 'Memorystore for Valkey, cluster'
  if (shards === undefined) return { product, nodeType: undefined, gib: undefined, shards, month: undefined }
  const largest = NODES.at(-1)!
  const node = NODES.find(({ bytes }) => memory / shards <= bytes * VALKEY_WRITABLE) ?? largest
  const needed = Math.max(shards, Math.ceil(memory / (node.bytes * VALKEY_WRITABLE)))
  if (needed > MAX_SHARDS) return { product, nodeType: undefined, gib: undefined, shards: undefined, month: undefined }
  const month = prices.times(node.price, needed * (1 + input.replicas) * HOURS)
  return { product: needed === 1 ? product : 'Memorystore for Valkey, cluster', nodeType: node.type, gib: undefined, shards: needed, month }
}

/** Has no shards. With a replica it is the Standard tier, whose price is not known. */
function chooseRedis ({ replicas }: Input, memory: number, shards: number | undefined, prices: Prices): Choice {
  const gib = Math.max(1, Math.ceil(memory / GIB))
  const product = `Memorystore for Redis, ${replicas === 0 ? 'Basic' : 'Standard'} tier`
  if (shards !== 1) return { product, nodeType: undefined, gib: undefined, shards: undefined, month: undefined }
  const known = replicas === 0 && gib <= BASIC_GIB
  return { product, nodeType: `${gib} GiB`, gib, shards, month: known ? prices.times('redisBasicGibHour', gib * HOURS) : undefined }
}

function oneCore (input: Input, { perInstance }: Instances, age: number): Redis['oneCore'] {
  const appAt = (count: number): Partial<App> => {
    return appOf(input, { connections: count * perInstance, instances: count, age })
  }
  const at = (share: number) => carried(appAt, costs.redis, share) * perInstance
  return { at60Percent: at(REDIS_SHARE), full: at(1) }
}
