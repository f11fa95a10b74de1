import processWarning from 'process-warning'
import { invalid, string } from './checks.ts'
import type { Options } from './options.ts'
import type { Problems } from './problems.ts'

const prefixIsKeyPrefix = processWarning.createDeprecation({
  code: 'FST_CRWS_DEP001',
  message: 'The option "prefix" is now called "keyPrefix", and the next version will refuse the old name. It prefixes Redis keys. ' +
    'For routes under a path, register the plugin in a scope with that path as its prefix'
})

/** Checks `keyPrefix`, under the name that the app has used. */
export const checkKeyPrefix = string(/^[^\s{}]+$/, 'a non-empty string without whitespace or braces')

/** Returns the options with `prefix`, the old name, under its new one, and warns of it once. */
export function withKeyPrefix ({ prefix, ...options }: Options, problems: Problems): Omit<Options, 'prefix'> {
  if (prefix === undefined) return options
  const { keyPrefix = problems.attempt(() => checkKeyPrefix(prefix, 'prefix')) } = options
  if (options.keyPrefix !== undefined && keyPrefix !== prefix) problems.add(invalid('prefix', prefix, 'no value beside a different keyPrefix, which is its new name'))
  prefixIsKeyPrefix()
  return { ...options, keyPrefix }
}
