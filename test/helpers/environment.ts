import type { Test } from 'tap'

/** Sets variables of this process's environment until the test ends. undefined removes one. */
export function setEnvironment (t: Test, values: Record<string, string | undefined>): void {
  const before = Object.fromEntries(Object.keys(values).map(name => [name, process.env[name]]))
  assign(values)
  t.teardown(() => assign(before))
}

function assign (values: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
}
