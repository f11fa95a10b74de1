import type { Command } from '../command.ts'
import { readOptions } from './options.ts'
import { Progress } from './progress.ts'
import { reportOf } from './report.ts'
import { LoadRun } from './run.ts'
import { table } from './table.ts'
import { USAGE } from './usage.ts'
import { announcement, checkFiles, openFileLimit } from './warnings.ts'

/** What ends a run early. The second one does not wait for what is on its way. */
const SIGNALS = ['SIGINT', 'SIGTERM'] as const

/** Runs a load test. Resolves to 0 if all was well, else to 1. */
export const load: Command = async (args, terminal) => {
  const options = readOptions(args)
  if (options === undefined) {
    terminal.stdout.write(USAGE)
    return 0
  }
  checkFiles(options.connections, openFileLimit())
  terminal.stderr.write(announcement(options))
  const progress = new Progress(terminal)
  const run = new LoadRun(options, progress)
  const stop = () => run.stop()
  for (const signal of SIGNALS) process.on(signal, stop)
  try {
    await run.execute()
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop)
    progress.end()
  }
  const report = reportOf(run)
  terminal.stdout.write(options.json ? `${JSON.stringify(report)}\n` : table(report))
  return report.ok ? 0 : 1
}
