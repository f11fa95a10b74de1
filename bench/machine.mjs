import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg } from 'node:os'

/** Files that a process has open beside its sockets. */
const OTHER_FILES = 100

/** Children end with this process, however it ends. */
export function endByExit () {
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
}

/** To stderr: what the figures depend on. */
export function describeMachine () {
  const [load] = loadavg()
  console.error(`${new Date().toISOString().slice(0, 10)}, ${availableParallelism()} cores (${cpus()[0]?.model ?? 'unknown'}), Node ${process.versions.node}, load average ${load.toFixed(1)}`)
  if (load > availableParallelism() / 4) console.error('This machine has other work to do: latencies will be too high, and rates may be lost that it could carry.')
}

/** Connections that one process may have: Node raises the limit of open files to the hard one by itself. */
export function maxConnections () {
  try {
    const [, hard] = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
    return Number.isInteger(Number(hard)) ? Number(hard) - OTHER_FILES : Infinity
  } catch {
    return Infinity // not on Linux; a connection that fails will say so
  }
}

/** @throws where a process can not have so many. */
export function needConnections (count) {
  if (count > maxConnections()) throw new Error(`${count} connections need a higher limit of open files: ulimit -Hn must be above ${count + OTHER_FILES}`)
}
