// What an app does to Redis and to its instances, per second, by calculation alone. See README.md. The command `plan`
// has the same model, so its source is there.
import { importSource } from './source.mjs'

export const { describeApp, traffic } = await importSource('lib/cli/plan/traffic.ts')
export const { carried, hottestChannel, instanceCpu, redisCpu, redisMemory, shardsNeeded } = await importSource('lib/cli/plan/load.ts')

export const rateOf = ({ commands }, ...kinds) => commands.reduce((sum, { kind, rate }) => kinds.includes(kind) ? sum + rate : sum, 0)
