import file from './prices.json' with { type: 'json' }
import { UsageError } from '../command.ts'

/** A price as prices.json has it: the same everywhere, by Cloud Run's tiers, or of the regions where it is known. */
interface Entry {
  unit: string
  /** When it was read, or `unknown`. */
  date: string
  source: string
  everywhere?: number
  tier1?: number
  tier2?: number
  regions?: Readonly<Record<string, number>>
}

export type PriceName = keyof typeof file.prices

const entries: Readonly<Record<PriceName, Entry>> = file.prices
export const priceNames = Object.keys(entries) as PriceName[]
const tiers: Readonly<Record<string, readonly string[]>> = file.tiers
const DEFAULT_REGION = 'us-central1'

/** What a person puts into a file for `--prices`. */
export interface Override {
  /** Instead of those of prices.json, in whatever region. */
  readonly prices?: Partial<Record<PriceName, number>>
  /** Dollars a month for something that the plan does not know, such as a connector. On every platform. */
  readonly fixed?: Readonly<Record<string, number>>
}

/** Hours of a month, as Google counts them. */
export const HOURS = 730

/** The prices of one region, in US dollars. */
export class Prices {
  readonly region: string
  /** Of Cloud Run. undefined: it is not known, and tier 2, the more expensive one, is assumed. */
  readonly tier: 1 | 2 | undefined
  readonly fixed: Readonly<Record<string, number>>
  readonly #override: Partial<Record<PriceName, number>>

  constructor (region: string = DEFAULT_REGION, { prices = {}, fixed = {} }: Override = {}) {
    this.region = region
    this.tier = tiers[1]!.includes(region) ? 1 : tiers[2]!.includes(region) ? 2 : undefined
    this.fixed = fixed
    this.#override = prices
  }

  /** undefined where it is not known. */
  of (name: PriceName): number | undefined {
    const { everywhere, tier1, tier2, regions } = entries[name]
    return this.#override[name] ?? everywhere ?? (this.tier === 1 ? tier1 : tier2) ?? regions?.[this.region]
  }

  /** Dollars of so many units. No units cost nothing, whatever the price. */
  times (name: PriceName, units: number): number | undefined {
    const price = this.of(name)
    return units === 0 ? 0 : price === undefined ? undefined : price * units
  }

  /** First and last day on which a price was read that is not overridden. */
  get dates (): { first: string, last: string } {
    const dates = priceNames.filter(name => this.#override[name] === undefined).map(name => entries[name].date)
      .filter(date => date !== 'unknown').toSorted()
    return { first: dates.at(0) ?? '', last: dates.at(-1) ?? '' }
  }

  get overridden (): PriceName[] {
    return priceNames.filter(name => this.#override[name] !== undefined)
  }
}

/** A sum that is not known where one of its parts is not. */
export function sum (amounts: readonly (number | undefined)[]): number | undefined {
  return amounts.reduce<number | undefined>((total, amount) => total === undefined || amount === undefined ? undefined : total + amount, 0)
}

/** @throws UsageError */
export function parseOverride (text: string, name: string): Override {
  const wrong = (what: string) => new UsageError(`--prices: ${name} ${what}`)
  let data: unknown
  try {
    data = JSON.parse(text)
  } catch (error) {
    throw wrong(`is not JSON: ${(error as SyntaxError).message}`)
  }
  const allowed = 'It has { "prices": { NAME: dollars }, "fixed": { "what it is": dollars a month } }'
  if (!isObject(data)) throw wrong(`is not an object. ${allowed}`)
  for (const [key, amounts] of Object.entries(data)) {
    if (key !== 'prices' && key !== 'fixed') throw wrong(`has an unknown key, ${key}. ${allowed}`)
    if (!isObject(amounts)) throw wrong(`has ${key} that is not an object. ${allowed}`)
    for (const [part, amount] of Object.entries(amounts)) {
      if (key === 'prices' && !Object.hasOwn(entries, part)) throw wrong(`has an unknown price, ${part}. The prices are ${priceNames.join(', ')}`)
      if (typeof amount !== 'number' || !(amount >= 0)) throw wrong(`has ${part}: ${JSON.stringify(amount)}. It has to be a number of dollars, 0 or more`)
    }
  }
  return data
}

function isObject (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
