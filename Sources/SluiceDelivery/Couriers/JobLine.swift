import SluiceCore

extension Parcel {
    /// The job as commands, files and brokers get it: the object that a push has under `data`.
    public var json: [UInt8] {
        var bytes: [UInt8] = []
        JobJSON.writeCarried(job, triggerName: trigger.name, uid: trigger.uid, isProjected: isProjected, into: &bytes)
        return bytes
    }

    /// The same as one line that ends with a line feed. Inside a JSON string a line break is escaped, so each one that stands
    /// in the bytes is space between tokens, and becomes a blank; everything else stays as the provider sent it.
    public var line: [UInt8] {
        var bytes = json
        for index in bytes.indices where bytes[index] == 0x0A || bytes[index] == 0x0D { bytes[index] = 0x20 }
        bytes.append(0x0A)
        return bytes
    }
}
