import { FLEETS, MOST_INSTANCES, REDIS_SHARE, SCRIPT_TARGET } from './assumptions.ts'
import { count, dollars, percent } from './format.ts'
import type { Input } from './input.ts'
import { MAX_SHARDS } from './load.ts'
import type { Platform } from './platforms.ts'
import type { Prices } from './prices.ts'
import type { Settings } from './settings.ts'

interface Planned { input: Input, run: Platform, platforms: readonly Platform[], settings: Settings, prices: Prices }

/** Instances of one revision with Direct VPC that a project may have by default, at least, as users report it. */
const DIRECT_VPC_QUOTA = 100
/** Share of the bill above which egress is worth a word. */
const MUCH = 0.5

export function makeWarnings (planned: Planned): string[] {
  return [...ofRedis(planned), ...ofInstances(planned), ...ofCost(planned), ...ofPrices(planned)]
}

function ofRedis ({ run: { redis }, input }: Planned): string[] {
  const warnings: string[] = []
  const { load, shards } = redis
  if (shards === undefined && load.hottestChannel > REDIS_SHARE) {
    const most = `of a core of Redis. It should take ${percent(REDIS_SHARE)} at most`
    warnings.push(`One channel alone takes ${percent(load.hottestChannel)} ${most}. More shards do not help. Publish less often, put several events ` +
      'into one message, or split the channel.')
  } else if (shards === undefined && input.redis === 'valkey') {
    warnings.push(`Memorystore for Valkey has ${count(MAX_SHARDS)} shards at most, and this needs more. Split the app into parts with one Redis each.`)
  } else if (shards === undefined) {
    warnings.push(`One Redis would be ${percent(load.cores)} full. It cannot be sharded. Use --redis valkey.`)
  } else if (shards > 1) {
    warnings.push(`One Redis is not enough. This needs a cluster of ${count(shards)} shards (deploy.sh --cluster-mode, which sets REDIS_CLUSTER=true).`)
  }
  if (input.replicas === 0) warnings.push('Without a replica, maintenance or a crash empties Redis. Clients are then told that they could not recover.')
  return warnings
}

function ofInstances ({ run, settings, input }: Planned): string[] {
  const warnings: string[] = []
  const { maxInstances } = settings
  const both = FLEETS * run.instances.peak
  if (both > MOST_INSTANCES) {
    warnings.push(`Cloud Run allows ${count(MOST_INSTANCES)} instances per service. This needs ${count(run.instances.peak)} at the peak, and up to ${count(both)} during a deployment.`)
  }
  if (input.target !== SCRIPT_TARGET) {
    warnings.push(`deploy.sh sets a scaling target of ${SCRIPT_TARGET}, and this plan has ${input.target}: change the flag in deploy/service.sh.`)
  }
  if (maxInstances > DIRECT_VPC_QUOTA) {
    warnings.push(`By default a revision may have 100 to 200 instances with Direct VPC, and each region has a quota of vCPUs. Ask for ${count(maxInstances)} instances before you need them.`)
  }
  warnings.push(`A deployment runs old and new instances side by side for up to an hour, until the last old connection ends: up to ${count(both)} ` +
    `instances, and ${run.deployment === undefined ? 'an unknown sum' : dollars(Math.max(1, run.deployment))} more each time.`)
  if (run.instances.limit === 'cpu') {
    warnings.push(`CPU is the limit: an instance handles ${count(run.instances.perInstance)} of the ${count(input.concurrency * input.target)} connections that its concurrency allows.`)
  }
  if (input.tabs > 1) {
    warnings.push(`Each user has ${count(input.tabs)} connections. One connection per user, shared between tabs (SharedWorker), would save ${percent(1 - 1 / input.tabs)} of them.`)
  }
  return warnings
}

function ofCost ({ run, input }: Planned): string[] {
  const warnings: string[] = []
  const egress = run.parts.find(({ name }) => name === 'egress')!.month
  if (egress !== undefined && egress > MUCH * run.month) {
    warnings.push(`Egress is ${percent(egress / run.month)} of the bill, more than everything else together. Send less, or set the option compression.`)
  }
  if (input.average === input.connections) {
    warnings.push('Without --average, the peak is assumed to last all month. Set it to see what a real month costs.')
  }
  return warnings
}

function ofPrices ({ platforms, prices, input }: Planned): string[] {
  const warnings: string[] = []
  if (prices.tier === undefined) {
    warnings.push(`The tier of ${input.region} is not known. Cloud Run's prices are those of tier 2, the more expensive one.`)
  }
  const unknown = [...new Set(platforms.flatMap(platform => platform.unknown))]
  if (unknown.length > 0) {
    warnings.push(`No price is known here for: ${unknown.join(', ')} (shown as -). The sums leave it out. Use --prices to add your own.`)
  }
  return warnings
}
