// Makes tap's coverage count the lines of a source that tsx has transformed. tsx writes `"sourcesContent": [null]` into its
// source maps, and v8-to-istanbul takes the null for the source: an empty file, of which everything is covered. Without the
// field it reads the source from the disk.
import module, { syncBuiltinESMExports } from 'node:module'

const { findSourceMap } = module

module.findSourceMap = (url) => {
  const sourceMap = findSourceMap(url)
  const { sourcesContent, ...payload } = sourceMap?.payload ?? {}
  if (sourcesContent?.includes(null)) Object.defineProperty(sourceMap, 'payload', { value: payload })
  return sourceMap
}
syncBuiltinESMExports()
