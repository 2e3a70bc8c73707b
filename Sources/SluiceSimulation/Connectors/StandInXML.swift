import SluiceCore

/// The stand-in's answers as XML: a member is an element of its name, a list is that element again and again.
enum StandInXML {
    static func text(_ json: String) -> String {
        guard let root = (try? JSONDocument(Array(json.utf8)))?.root else { return "" }
        return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>" + elements(root)
    }

    private static func elements(_ view: JSONView) -> String {
        var text = ""
        for member in view.members ?? [] {
            for value in member.value.elements ?? [member.value] where !value.isNull {
                let inner = value.members == nil ? escaped(value.text ?? value.bool.map { $0 ? "true" : "false" } ?? "") : elements(value)
                text += "<\(member.key)>\(inner)</\(member.key)>"
            }
        }
        return text
    }

    private static func escaped(_ text: String) -> String {
        text.reduce(into: "") { result, character in
            switch character {
            case "<": result += "&lt;"
            case "&": result += "&amp;"
            default: result.append(character)
            }
        }
    }
}
