import { readFile, writeFile } from 'node:fs/promises'
import { UsageError } from '../command.ts'
import type { Command } from '../command.ts'
import { drawPlan } from './chart.ts'
import { parseOptions, usage } from './options.ts'
import { makePlan } from './plan.ts'
import type { Plan } from './plan.ts'
import { parseOverride, Prices } from './prices.ts'
import { report } from './report.ts'

export const plan: Command = async (args, { stdout, stderr }) => {
  const { help, json, svg, prices: file, input } = parseOptions(args)
  if (help) {
    stdout.write(usage())
    return 0
  }
  const prices = new Prices(input.region, file === undefined ? undefined : parseOverride(await readText(file), file))
  const made = makePlan(input, prices)
  if (svg !== undefined) {
    await writeText(svg, drawPlan(made, prices))
    stderr.write(`wrote ${svg}\n`)
  }
  stdout.write(json ? toJson(made) : report(made))
  return 0
}

/** Every field is there: null is what is not known. */
function toJson (made: Plan): string {
  return `${JSON.stringify(made, (_key, value: unknown) => value === undefined ? null : value === Infinity ? 'all' : value, 2)}\n`
}

async function readText (file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new UsageError(`--prices: ${(error as Error).message}`)
  }
}

async function writeText (file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text)
  } catch (error) {
    throw new UsageError(`--svg: ${(error as Error).message}`)
  }
}
