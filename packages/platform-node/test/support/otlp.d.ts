/** OpenTelemetry's own definitions of OTLP, whose package does not describe them. */
declare module "@opentelemetry/otlp-transformer/build/src/generated/root.js" {
  interface Definition {
    readonly decode: (bytes: Uint8Array) => object
    readonly verify: (message: object) => string | null
    readonly toObject: (message: object, options: object) => unknown
  }
  export const opentelemetry: {
    readonly proto: {
      readonly collector: {
        readonly trace: { readonly v1: { readonly ExportTraceServiceRequest: Definition } }
        readonly metrics: { readonly v1: { readonly ExportMetricsServiceRequest: Definition } }
        readonly logs: { readonly v1: { readonly ExportLogsServiceRequest: Definition } }
      }
    }
  }
}
