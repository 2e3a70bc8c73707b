import SluiceConnectors
import SluiceCore

/// What `sluice.yaml` says, read and resolved, not yet held against connectors or the store. A pure value.
public struct Manifest: Sendable, Equatable {
    public var connections: [ConnectionSpec] = []
    public var triggers: [TriggerSpec] = []
    public var destinations: [DestinationSpec] = []
    public init() {}
}

/// A value of a field with its references resolved. Never printed: it may be secret.
public struct ManifestValue: Sendable, Equatable {
    public indirect enum Content: Sendable, Equatable {
        case scalar(String, isPlain: Bool)
        case object([Field])
        case array([ManifestValue])
    }
    public struct Field: Sendable, Equatable {
        public var name: String
        public var value: ManifestValue
    }
    public var content: Content
    public var line: Int
    /// Whether any part came from `${env:…}` or `${file:…}`.
    public var isReferenced: Bool

    public init(content: Content, line: Int, isReferenced: Bool) {
        self.content = content
        self.line = line
        self.isReferenced = isReferenced
    }
}

public struct NamedValue: Sendable, Equatable {
    public var name: String
    public var line: Int
    public var value: ManifestValue
}

public struct ConnectionSpec: Sendable, Equatable {
    public var name: String
    public var line: Int
    public var connector = ""
    public var fields: [NamedValue] = []
    public var settings = ConnectionSettings()
    /// Every secret that is valid now: more than one during a rotation.
    public var webhookSecrets: [String] = []
    public var hasInlineWebhookSecret = false
}

public struct TriggerSpec: Sendable, Equatable {
    public enum DesiredState: String, Sendable, CaseIterable { case running, paused, stopped }
    public struct Attachment: Sendable, Equatable {
        public var destination: String
        public var line: Int
        /// From this position on; nil: from now on.
        public var from: JobPosition?
        public var settings = AttachmentSettings()
    }
    public var name: String
    public var line: Int
    public var connection = ""
    public var type = ""
    public var input: [NamedValue] = []
    public var settings = TriggerSettings()
    /// Nil: not said; attachments stay as they are.
    public var destinations: [Attachment]?
    /// Nil: not said; a new trigger runs, another stays as it is.
    public var state: DesiredState?
}

public struct DestinationSpec: Sendable, Equatable {
    public var name: String
    public var line: Int
    public var kind = ""
    public var settings = DestinationSettings()
    /// Sign the pushes, the newest first.
    public var secrets: [SigningSecret] = []
    /// Values may be secret, so all of them are sealed.
    public var headers: [NamedText] = []
    /// Further values that may be secret, by what they stand under: see `CarriedSettings`.
    public var values: [NamedText] = []
    public var hasInlineSecret = false
}

public struct NamedText: Sendable, Equatable {
    public var name: String
    public var value: String
}
