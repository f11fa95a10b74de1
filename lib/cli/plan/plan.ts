import { decide, saving } from './decision.ts'
import type { Decision } from './decision.ts'
import { scaled } from './input.ts'
import type { Input } from './input.ts'
import { migrationPath } from './migration.ts'
import type { Stage } from './migration.ts'
import { makePlatforms } from './platforms.ts'
import type { Platform } from './platforms.ts'
import type { PriceName, Prices } from './prices.ts'
import { makeSettings } from './settings.ts'
import type { Settings } from './settings.ts'
import costs from './unit-costs.json' with { type: 'json' }
import { makeWarnings } from './warnings.ts'

/** What `--json` prints. docs/planning.md describes it: fields are added, and none is taken away. */
export interface Plan {
  version: 1
  input: Input
  prices: { region: string, tier: 1 | 2 | undefined, first: string, last: string, overridden: PriceName[] }
  /** Where the load of Redis and of the instances comes from. */
  model: { date: string, machine: string, source: string }
  settings: Settings
  platforms: Platform[]
  decision: Decision & { saving: number | undefined }
  migration: Stage[]
  warnings: string[]
}

export function makePlan (input: Input, prices: Prices): Plan {
  const platforms = makePlatforms(input, prices)
  const run = platforms[0]!
  const settings = makeSettings(input, run)
  return {
    version: 1,
    input,
    prices: { region: prices.region, tier: prices.tier, ...prices.dates, overridden: prices.overridden },
    model: { date: costs.date, machine: costs.machine, source: costs.source },
    settings,
    platforms,
    decision: { ...decide(input), saving: saving(platforms) },
    migration: migrationPath(input, prices),
    warnings: makeWarnings({ input, run, platforms, settings, prices })
  }
}

/** What the same app costs a month with other numbers of connections, on each platform. */
export interface Curve { platform: Platform, points: { connections: number, month: number }[] }

export function costCurves (input: Input, prices: Prices, counts: readonly number[]): Curve[] {
  const plans = counts.map(connections => ({ connections, platforms: makePlatforms(scaled(input, connections), prices) }))
  return makePlatforms(input, prices).map((platform, i) => ({
    platform,
    points: plans.map(({ connections, platforms }) => ({ connections, month: platforms[i]!.month }))
  }))
}
