import { fields, invalid, orLiteral, routePath } from './checks.ts'
import type { Check } from './checks.ts'

/** Checked routes of the option `fallback`. */
export interface Fallback {
  readonly httpStreamPath: string | false
  readonly ssePath: string | false
  readonly emulationPath: string | false
  readonly uniSsePath: string | false
}

const fallbackDefaults: Fallback = Object.freeze({
  httpStreamPath: '/connection/http_stream',
  ssePath: '/connection/sse',
  emulationPath: '/emulation',
  uniSsePath: '/connection/uni_sse'
})
const path = orLiteral([false], routePath)
const paths: Check<Fallback> = fields({ httpStreamPath: path, ssePath: path, emulationPath: path, uniSsePath: path }, fallbackDefaults, {
  allowed: 'false, true or { httpStreamPath?, ssePath?, emulationPath?, uniSsePath? }'
})

/** Checks the option `fallback`. */
export const fallback: Check<Fallback | false> = (value, name) => {
  if (value === false) return false
  const checked = value === true ? fallbackDefaults : paths(value, name)
  if (checked.emulationPath === false && (checked.httpStreamPath !== false || checked.ssePath !== false)) {
    throw invalid(`${name}.emulationPath`, false, 'a path, as the routes at httpStreamPath and ssePath need it; or false for all three')
  }
  return checked
}
