// Keeps tap from counting what is not covered by tests: it takes time in every process, and once more in the report.
import { Session } from 'node:inspector'
import { createRequire } from 'node:module'

const root = new URL('../..', import.meta.url).href
const fromTap = createRequire(createRequire(import.meta.url).resolve('@tapjs/processinfo'))
const { post } = Session.prototype

// tap loads itself into every Node.js that a test starts, and into what that one starts, whatever environment the test
// gives it. Each takes longer to start and dumps the coverage of all that it has loaded: the built package, the
// benchmarks, node_modules. Only a process that tsx lets run the sources has coverage that counts.
fromTap('process-on-spawn').addListener(child => {
  const { NODE_OPTIONS = '', ...env } = child.env
  if (child.args.includes('--import=tsx') && env._TAPJS_PROCESSINFO_COVERAGE_ !== '0') return
  for (const name of Object.keys(env)) if (name.startsWith('_TAPJS_PROCESSINFO_')) delete env[name]
  const options = NODE_OPTIONS.split(' ').filter(option => !option.includes('/@tapjs/processinfo/')).join(' ')
  child.env = options === '' ? env : { ...env, NODE_OPTIONS: options }
})

// tap leaves out node_modules by its path, which is another one where a part of the path is a symbolic link. There a
// process dumped 10 MB instead of less than one.
Session.prototype.post = function (method, ...rest) {
  const callback = rest.at(-1)
  if (method !== 'Profiler.takePreciseCoverage' || typeof callback !== 'function') return post.call(this, method, ...rest)
  post.call(this, method, (error, coverage) => {
    if (coverage) coverage.result = coverage.result.filter(({ url }) => isSource(url))
    callback(error, coverage)
  })
}

function isSource (url) {
  return url.startsWith(root) && /^(?:lib\/|[\w-]+\.ts)/.test(url.slice(root.length))
}
