#!/usr/bin/env node
import { run } from './lib/cli/run.ts'

// A reader that has seen enough, such as `head`, is no error. What nobody reads is dropped; the exit code stays.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
}

process.exitCode = await run(process.argv.slice(2), process)
