/** Lets this process answer the calls of a `Child`. Methods may be async. */
export function answer (methods) {
  process.on('message', async ({ id, method, args }) => {
    try {
      process.send({ id, result: await methods[method](...args) })
    } catch (error) {
      process.send({ id, error: error.message })
    }
  })
  process.on('disconnect', () => process.exit()) // nobody is left to measure for
}
